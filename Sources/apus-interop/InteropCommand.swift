internal import ArgumentParser

@main
struct InteropCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-interop",
        abstract: "gRPC's interoperability tests (doc/interop-test-descriptions.md): their server, and their client.",
        subcommands: [ServerCommand.self, ClientCommand.self]
    )
}
