internal import ArgumentParser

@main
struct EchoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-echo",
        abstract: "A gRPC echo server (echo.v1.EchoService) to point any gRPC client at, and a client for it.",
        subcommands: [
            ServeCommand.self, GetCommand.self, ExpandCommand.self, CollectCommand.self, UpdateCommand.self,
            LoadCommand.self,
        ]
    )
}
