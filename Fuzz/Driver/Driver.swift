internal import FuzzEntries
internal import Glibc

// libFuzzer's `main` is linked in and is not what starts here: this is, and hands over to it once the target is known.
//
//     fuzz list                        the targets
//     fuzz seeds TARGET FOLDER         writes the target's seeds
//     fuzz TARGET [libFuzzer options]  fuzzes

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// Set once, before the fuzzer's loop begins.
private nonisolated(unsafe) var chosen: FuzzTarget?

/// The name is what SwiftPM makes of `main` in an executable of this name.
@_cdecl("fuzz_main")
public func fuzzMain(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    // SAFETY: the arguments are the process', as `main` gets them, and live as long as it does.
    let words = (1..<max(Int(count), 1)).compactMap { index in
        unsafe arguments[index].map { unsafe String(cString: $0) }
    }
    switch words.first {
    case "list":
        for target in FuzzTarget.all { print(target.name) }
        return 0
    case "seeds" where words.count == 3: return writeSeeds(of: words[1], to: words[2])
    case let name?:
        guard let target = FuzzTarget.all.first(where: { $0.name == name }) else { break }
        unsafe chosen = target
        var rest = count - 1
        unsafe arguments[1] = arguments[0]
        var start = unsafe arguments + 1
        return unsafe withUnsafeMutablePointer(to: &start) { start in
            unsafe start.withMemoryRebound(to: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.self, capacity: 1) {
                unsafe runDriver(&rest, $0, test)
            }
        }
    case nil: break
    }
    print("usage: fuzz list | fuzz seeds TARGET FOLDER | fuzz TARGET [libFuzzer options]")
    return 2
}

private let test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt = { bytes, count in
    // SAFETY: the bytes are libFuzzer's for the length of the call, and are copied.
    let input = unsafe [UInt8](UnsafeBufferPointer(start: bytes, count: count))
    guard let target = unsafe chosen else { abort() }
    do {
        try target.run(input)
    } catch {
        print("the property does not hold: \(error)")
        fflush(nil)
        abort()
    }
    return 0
}

private func writeSeeds(of name: String, to folder: String) -> CInt {
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else { return 2 }
    for (index, seed) in target.seeds().enumerated() {
        // SAFETY: file handle and bytes are locals.
        guard let file = unsafe fopen("\(folder)/seed-\(index)", "w") else { return 1 }
        _ = unsafe seed.withUnsafeBytes { unsafe fwrite($0.baseAddress, 1, $0.count, file) }
        unsafe fclose(file)
    }
    return 0
}
