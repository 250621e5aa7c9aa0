import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

@Suite struct RouterTests {
    private func method(_ service: String, _ name: String) -> ServedMethod {
        ServedMethod(
            descriptor: MethodDescriptor(service: service, method: name),
            handler: .synchronousUnary { message, _ in message },
            executor: .eventLoop,
            maxRequestBytes: 1,
            maxResponseBytes: 1
        )
    }

    private func find(_ path: String, in router: Router) -> String? {
        router.find(Array(path.utf8).span)?.descriptor.path
    }

    /// FNV-1a as the table uses it, written once more so that names which share a slot can be looked for.
    private func slot(_ path: String, of capacity: Int) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in path.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return Int(truncatingIfNeeded: hash ^ hash >> 32) & (capacity - 1)
    }

    @Test(arguments: [0, 1, 3, 4, 5, 100, 1000])
    func `each of many methods is found, and nothing else`(count: Int) {
        let methods = (0..<count).map { method("s\($0 % 7).Service", "Method\($0)") }
        let router = Router(methods)
        for method in methods { #expect(find(method.descriptor.path, in: router) == method.descriptor.path) }
        for index in 0..<200 {
            #expect(find("/s\(index % 7).Service/Missing\(index)", in: router) == nil)
            #expect(find("/s9.Service/Method\(index)", in: router) == nil)
        }
    }

    @Test func `methods that fall on the same slot are all found, and a miss among them ends`() {
        // Four methods make a table of eight slots; the names are such that all fall on the last, and probing wraps.
        let all = (0..<1000).map { "M\($0)" }
        let names = all.filter { slot("/s/\($0)", of: 8) == 7 }.prefix(8)
        let served = names.prefix(4).map { method("s", $0) }
        let router = Router(served)
        for name in names.prefix(4) { #expect(find("/s/\(name)", in: router) == "/s/\(name)") }
        for name in names.dropFirst(4) { #expect(find("/s/\(name)", in: router) == nil) }
    }

    @Test(arguments: [
        "", "/", "//", "/s", "/s/", "s/Get", "/s/Get/", "/s/get", "/S/Get", "/s/Ge", "/s/Gets", "/s//Get",
    ])
    func `a path that is almost one is none`(path: String) {
        #expect(find(path, in: Router([method("s", "Get")])) == nil)
    }

    @Test func `paths at random are found only if they are served`() {
        var random = RandomSource(seed: 17)
        let letters = Array("/ab".utf8)
        let methods = [method("a", "b"), method("b", "a"), method("ab", "ab")]
        let router = Router(methods)
        let served = Set(methods.map(\.descriptor.path))
        for _ in 0..<20_000 {
            let path = (0..<Int.random(in: 0...7, using: &random)).map { _ in
                letters[Int.random(in: 0..<3, using: &random)]
            }
            let text = String(decoding: path, as: UTF8.self)
            #expect(find(text, in: router) == (served.contains(text) ? text : nil))
        }
    }

    @Test(arguments: [
        ("/known.Service/Nope", "service known.Service has no method Nope"),
        ("/unknown.Service/Get", "service unknown.Service is not served here"),
        ("/unknown.Service/", "service unknown.Service is not served here"),
        ("/known.Service/a/b", "service known.Service has no method a/b"),
        ("/Service", "the path \"/Service\" does not name a method"),
        ("/", "the path \"/\" does not name a method"), ("", "the path \"\" does not name a method"),
        ("known.Service/Get", "the path \"known.Service/Get\" does not name a method"),
    ])
    func `why a path is not served is said`(path: String, reason: String) {
        #expect(Router([method("known.Service", "Get")]).explainMissing(path) == reason)
    }
}
