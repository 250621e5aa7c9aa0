// Blocks for nghttp2 from free lists, one list for each multiple of 64 bytes; what is larger comes from malloc.
//
// For programs of one thread: the lists are not locked, and nothing goes back to malloc before `drainPool`.

#pragma once

#include <nghttp2/nghttp2.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { poolClassBytes = 64, poolClasses = 17 };

/// What stands before each block: the free list it belongs to, 0 for none. 16 bytes keep malloc's alignment.
union poolHeader {
    size_t class;
    union poolHeader *nextFree;
    max_align_t alignment;
};

static union poolHeader *poolFreeBlocks[poolClasses];

static void *poolMalloc(size_t size, void *context) {
    (void)context;
    size_t class = (size + sizeof(union poolHeader) + poolClassBytes - 1) / poolClassBytes;
    union poolHeader *block;
    if (class >= poolClasses) {
        block = malloc(size + sizeof *block);
        class = 0;
    } else if ((block = poolFreeBlocks[class]) != NULL) {
        poolFreeBlocks[class] = block->nextFree;
    } else {
        block = malloc(class * poolClassBytes);
    }
    if (block == NULL) return NULL;
    block->class = class;
    return block + 1;
}

static void poolFree(void *pointer, void *context) {
    (void)context;
    if (pointer == NULL) return;
    union poolHeader *block = (union poolHeader *)pointer - 1;
    size_t class = block->class;
    if (class == 0) {
        free(block);
        return;
    }
    block->nextFree = poolFreeBlocks[class];
    poolFreeBlocks[class] = block;
}

static void *poolCalloc(size_t count, size_t size, void *context) {
    void *pointer = poolMalloc(count * size, context);
    if (pointer != NULL) memset(pointer, 0, count * size);
    return pointer;
}

static void *poolRealloc(void *pointer, size_t size, void *context) {
    if (pointer == NULL) return poolMalloc(size, context);
    union poolHeader *block = (union poolHeader *)pointer - 1;
    if (block->class == 0) {
        block = realloc(block, size + sizeof *block);
        return block == NULL ? NULL : block + 1;
    }
    size_t old = block->class * poolClassBytes - sizeof *block;
    if (size <= old) return pointer;
    void *grown = poolMalloc(size, context);
    if (grown == NULL) return NULL;
    memcpy(grown, pointer, old);
    poolFree(pointer, context);
    return grown;
}

static void drainPool(void) {
    for (size_t class = 0; class < poolClasses; class++)
        while (poolFreeBlocks[class] != NULL) {
            union poolHeader *block = poolFreeBlocks[class];
            poolFreeBlocks[class] = block->nextFree;
            free(block);
        }
}

static nghttp2_mem pool = {NULL, poolMalloc, poolFree, poolCalloc, poolRealloc};
