internal import Apus
internal import EchoV1
internal import Foundation

/// A call by the stubs of echo.v1.EchoService, as a user of the package makes them.
struct EchoCall: Sendable {
    let command: Command
    let channel: Channel

    init(_ command: Command, _ channel: Channel) {
        self.command = command
        self.channel = channel
    }

    func start() {
        if command.blocking == true {
            Thread { self.say { () throws(RPCError) in try blocking() } }.start()
        } else {
            Task { await self.sayAsync() }
        }
    }

    private var requests: [Echo_V1_EchoRequest] {
        (command.texts ?? []).map { text in .with { $0.text = text } }
    }

    private func sayAsync() async {
        do throws(RPCError) {
            let texts = try await asynchronous()
            say { texts }
        } catch {
            say { () throws(RPCError) in throw error }
        }
    }

    private func say(_ texts: () throws(RPCError) -> [String]) {
        do throws(RPCError) {
            let texts = try texts().map { JSON.string($0) }
            Output.say("echoed", ["id": .string(command.id ?? ""), "code": .string("OK"), "texts": .array(texts)])
        } catch {
            Output.say(
                "echoed",
                ["id": .string(command.id ?? ""), "code": .string("\(error.code)"), "message": .string(error.message)]
            )
        }
    }

    private func asynchronous() async throws(RPCError) -> [String] {
        let client = Echo_V1_EchoService.Client(channel)
        let options = command.options
        switch command.kind ?? .unary {
        case .unary: return [try await client.get(requests[0], options: options).text]
        case .server: return try await read(client.expand(requests[0], options: options))
        case .client:
            let call = client.collect(options: options)
            for request in requests { try await call.requests.write(request) }
            return [try await call.response().text]
        case .bidi:
            let call = client.update(options: options)
            for request in requests { try await call.requests.write(request) }
            call.requests.finish()
            return try await read(call.responses)
        }
    }

    private func read(_ responses: ResponseStream<Echo_V1_EchoResponse>) async throws(RPCError) -> [String] {
        var texts: [String] = []
        while let response = try await responses.next() { texts.append(response.text) }
        return texts
    }

    private func blocking() throws(RPCError) -> [String] {
        let client = Echo_V1_EchoService.BlockingClient(channel)
        let options = command.options
        switch command.kind ?? .unary {
        case .unary: return [try client.get(requests[0], options: options).text]
        case .server: return try read(client.expand(requests[0], options: options))
        case .client:
            let call = client.collect(options: options)
            for request in requests { try call.requests.write(request) }
            return [try call.response().text]
        case .bidi:
            let call = client.update(options: options)
            for request in requests { try call.requests.write(request) }
            call.requests.finish()
            return try read(call.responses)
        }
    }

    private func read(_ responses: BlockingResponseStream<Echo_V1_EchoResponse>) throws(RPCError) -> [String] {
        var texts: [String] = []
        while let response = try responses.next() { texts.append(response.text) }
        return texts
    }
}
