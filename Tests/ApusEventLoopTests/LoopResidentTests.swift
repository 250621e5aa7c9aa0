import Testing

@testable import ApusEventLoop

/// Who lives on a loop is kept by it, and told when it ends.
@Suite(.timeLimit(.minutes(1))) struct LoopResidentTests {
    private final class Resident: LoopResident, @unchecked Sendable {
        // Sendable, because it is touched on the loop alone, and read when that has ended.
        let loop: EventLoop
        let notes: Confined<[String]>
        let name: String

        init(_ name: String, _ loop: EventLoop, _ notes: Confined<[String]>) {
            self.name = name
            self.loop = loop
            self.notes = notes
        }

        func loopEnds() {
            notes.value.append(name)
            // As one that was told does when it closes.
            loop.removeResident(self)
            let isAccepted = loop.execute { [notes] in notes.value.append("after") }
            if !isAccepted { notes.value.append("refused") }
        }
    }

    /// Sees whether a resident is still there.
    private final class Watch: @unchecked Sendable {
        weak var resident: Resident?
    }

    @Test func `it is kept, told of the end once, and what it queues then is run`() async throws {
        let notes = Confined([String]())
        let watch = Watch()
        try await withLoop { loop in
            await loop.run {
                let made = Resident("told", loop, notes)
                loop.addResident(made)
                loop.addResident(made)
                watch.resident = made
            }
            #expect(watch.resident != nil)
            #expect(notes.value == [])
        }
        #expect(notes.value == ["told", "after"])
        #expect(watch.resident == nil)
    }

    @Test func `one that was removed is neither kept nor told`() async throws {
        let notes = Confined([String]())
        let watch = Watch()
        try await withLoop { loop in
            await loop.run {
                let made = Resident("told", loop, notes)
                loop.addResident(made)
                loop.removeResident(made)
                // One that is not there.
                loop.removeResident(made)
                watch.resident = made
            }
            #expect(watch.resident == nil)
        }
        #expect(notes.value == [])
    }

    @Test func `many are told, each once`() async throws {
        let notes = Confined([String]())
        try await withLoop { loop in
            await loop.run { for index in 0..<100 { loop.addResident(Resident("\(index)", loop, notes)) } }
        }
        #expect(Set(notes.value) == Set((0..<100).map { "\($0)" } + ["after"]))
        #expect(notes.value.count == 200)
    }
}
