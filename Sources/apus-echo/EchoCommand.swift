internal import ArgumentParser

@main
struct EchoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-echo",
        abstract: "A gRPC echo server (echo.v1.EchoService) to point any gRPC client at.",
        subcommands: [ServeCommand.self]
    )
}
