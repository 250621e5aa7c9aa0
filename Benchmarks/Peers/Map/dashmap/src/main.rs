//! DashMap under the loads of `bench-map`, with the same arguments and output:
//!
//!     map-dashmap dashmap|dashmap-sip u64|borrowed|copied uniform|hot READERS WRITERS MILLISECONDS
//!
//! `dashmap` hashes with ahash, `dashmap-sip` with SipHash, its default. A borrowed read looks at the value through the
//! guard; a copied one clones the Arc.

use dashmap::DashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

const KEYS: u64 = 10_000;

trait Subject: Send + Sync + 'static {
    fn read(&self, key: u64) -> u64;
    fn write(&self, key: u64, number: u64);
}

struct Numbers<S>(DashMap<u64, u64, S>);
struct Borrowed<S>(DashMap<u64, Arc<u64>, S>);
struct Copied<S>(DashMap<u64, Arc<u64>, S>);

impl<S: BuildHasher + Clone + Send + Sync + 'static> Subject for Numbers<S> {
    fn read(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |value| *value)
    }
    fn write(&self, key: u64, number: u64) {
        self.0.insert(key, number);
    }
}

impl<S: BuildHasher + Clone + Send + Sync + 'static> Subject for Borrowed<S> {
    fn read(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |value| **value)
    }
    fn write(&self, key: u64, number: u64) {
        self.0.insert(key, Arc::new(number));
    }
}

impl<S: BuildHasher + Clone + Send + Sync + 'static> Subject for Copied<S> {
    fn read(&self, key: u64) -> u64 {
        let value = self.0.get(&key).map(|value| Arc::clone(&value));
        value.map_or(0, |value| *value)
    }
    fn write(&self, key: u64, number: u64) {
        self.0.insert(key, Arc::new(number));
    }
}

fn numbers<S: BuildHasher + Clone + Send + Sync + 'static>(hasher: S) -> DashMap<u64, u64, S> {
    let map = DashMap::with_hasher(hasher);
    for key in 0..KEYS {
        map.insert(key, key);
    }
    map
}

fn boxes<S: BuildHasher + Clone + Send + Sync + 'static>(hasher: S) -> DashMap<u64, Arc<u64>, S> {
    let map = DashMap::with_hasher(hasher);
    for key in 0..KEYS {
        map.insert(key, Arc::new(key));
    }
    map
}

fn nanoseconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn pin(core: usize) {
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut cores);
        libc::pthread_setaffinity_np(libc::pthread_self(), std::mem::size_of_val(&cores), &cores);
    }
}

struct Time {
    wall: f64,
    processor: f64,
}

fn time_per_call(index: usize, load: &Load, waiting: &AtomicUsize, mut call: impl FnMut(u64, u64)) -> Time {
    pin(index);
    let mut random = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(index as u64 + 1);
    let mut count = 0u64;
    waiting.fetch_sub(1, Ordering::SeqCst);
    while waiting.load(Ordering::SeqCst) > 0 {}
    let wall = nanoseconds(libc::CLOCK_MONOTONIC);
    let end = wall + load.milliseconds * 1e6;
    let processor = nanoseconds(libc::CLOCK_THREAD_CPUTIME_ID);
    while nanoseconds(libc::CLOCK_MONOTONIC) < end {
        for _ in 0..1000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = if load.hot { 42 } else { ((random as u128 * KEYS as u128) >> 64) as u64 };
            count += 1;
            call(key, count);
        }
    }
    Time {
        wall: (nanoseconds(libc::CLOCK_MONOTONIC) - wall) / count as f64,
        processor: (nanoseconds(libc::CLOCK_THREAD_CPUTIME_ID) - processor) / count as f64,
    }
}

struct Load {
    hot: bool,
    readers: usize,
    writers: usize,
    milliseconds: f64,
}

fn measure(map: impl Subject, load: Load) {
    let (map, load) = (Arc::new(map), Arc::new(load));
    let waiting = Arc::new(AtomicUsize::new(load.readers + load.writers));
    let threads: Vec<_> = (0..load.readers + load.writers)
        .map(|index| {
            let (map, load, waiting) = (Arc::clone(&map), Arc::clone(&load), Arc::clone(&waiting));
            std::thread::spawn(move || {
                if index < load.readers {
                    let mut sum = 0u64;
                    let time =
                        time_per_call(index, &load, &waiting, |key, _| sum = sum.wrapping_add(map.read(key)));
                    std::hint::black_box(sum);
                    time
                } else {
                    time_per_call(index, &load, &waiting, |key, count| map.write(key, count))
                }
            })
        })
        .collect();
    let times: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mean = |times: &[Time], of: fn(&Time) -> f64| {
        if times.is_empty() {
            "-".to_string()
        } else {
            format!("{:.2}", times.iter().map(of).sum::<f64>() / times.len() as f64)
        }
    };
    let (reads, writes) = times.split_at(load.readers);
    let (wall, processor): (fn(&Time) -> f64, fn(&Time) -> f64) = (|time| time.wall, |time| time.processor);
    println!("{} {} {} {}", mean(reads, wall), mean(writes, wall), mean(reads, processor), mean(writes, processor));
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [map, form, keys, readers, writers, milliseconds] = words[..] else {
        eprintln!("usage: map-dashmap MAP FORM uniform|hot READERS WRITERS MILLISECONDS");
        std::process::exit(2);
    };
    let load = Load {
        hot: keys == "hot",
        readers: readers.parse().unwrap(),
        writers: writers.parse().unwrap(),
        milliseconds: milliseconds.parse().unwrap(),
    };
    let sip = std::collections::hash_map::RandomState::new;
    let ahash = ahash::RandomState::new;
    match (map, form) {
        ("dashmap", "u64") => measure(Numbers(numbers(ahash())), load),
        ("dashmap", "borrowed") => measure(Borrowed(boxes(ahash())), load),
        ("dashmap", "copied") => measure(Copied(boxes(ahash())), load),
        ("dashmap-sip", "u64") => measure(Numbers(numbers(sip())), load),
        ("dashmap-sip", "borrowed") => measure(Borrowed(boxes(sip())), load),
        ("dashmap-sip", "copied") => measure(Copied(boxes(sip())), load),
        _ => std::process::exit(2),
    }
}
