// What the two halves of the floor say to each other, byte for byte what every other client and server says.

#pragma once

/// A message with its length prefix: 5 bytes, then 2 of protobuf (field 1, its length) and 30 of text.
static const unsigned char message[] = "\0\0\0\0\x20\x0a\x1e" "this is echo number 0000000000";

enum { messageBytes = sizeof message - 1, prefixBytes = 5 };

static const char unaryPath[] = "/echo.v1.EchoService/Get";
static const char bidirectionalPath[] = "/echo.v1.EchoService/Update";
/// Takes a number as decimal text, and answers with so many messages.
static const char repeatPath[] = "/bench.v1.BenchService/Repeat";
