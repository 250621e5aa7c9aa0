import Foundation
import TestSupport
import Testing

/// What the fuzzer calls, with its seeds and with what it once found: a mistake that was mended stays so.
@Suite(.serialized, .timeLimit(.minutes(2))) struct FuzzReplayTests {
    /// Of each target the inputs that failed, in `Fuzz/FailCases/TARGET/`.
    private static let failCases = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../../Fuzz/FailCases").standardizedFileURL

    @Test(arguments: FuzzTarget.all) func `what a fuzz target holds to be true is so for its seeds`(
        target: FuzzTarget
    ) async throws {
        let seeds = target.seeds()
        #expect(seeds.count > 2)
        for (index, seed) in seeds.enumerated() {
            let failure = try await onThread { Self.failure(of: target, seed) }
            #expect(failure == nil, "seed \(index): \(seed)")
        }
    }

    @Test(arguments: FuzzTarget.all) func `what the fuzzer found once does not come back`(
        target: FuzzTarget
    ) async throws {
        let folder = Self.failCases.appendingPathComponent(target.name)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        for name in names.sorted() {
            let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent(name)))
            let failure = try await onThread { Self.failure(of: target, bytes) }
            #expect(failure == nil, "\(name)")
        }
    }

    @Test func `each folder of fail cases is some target's`() throws {
        let folders = (try? FileManager.default.contentsOfDirectory(atPath: Self.failCases.path)) ?? []
        let unknown = Set(folders).subtracting(FuzzTarget.all.map(\.name))
        #expect(unknown.isEmpty)
    }

    private static func failure(of target: FuzzTarget, _ bytes: [UInt8]) -> String? {
        do {
            try target.run(bytes)
            return nil
        } catch {
            return "\(error)"
        }
    }
}
