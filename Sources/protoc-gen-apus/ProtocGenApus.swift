import ApusCodeGen
import SwiftProtobuf
import SwiftProtobufPluginLibrary

/// The plugin of protoc that makes stubs for Apus: `protoc --apus_out=DIR …` runs it.
///
/// It reads protoc's request from standard input and writes the files, or one line that says why there are none, to
/// standard output.
@main
struct ProtocGenApus: CodeGenerator {
    func generate(
        files: [FileDescriptor],
        parameter: any CodeGeneratorParameter,
        protoCompilerContext: any ProtoCompilerContext,
        generatorOutputs: any GeneratorOutputs
    ) throws {
        let options = try GeneratorOptions(parameter)
        try ApusCodeGen.generate(files, options) { try generatorOutputs.add(fileName: $0, contents: $1) }
    }

    let supportedFeatures: [Google_Protobuf_Compiler_CodeGeneratorResponse.Feature] = [
        .proto3Optional, .supportsEditions,
    ]

    var supportedEditionRange: ClosedRange<Google_Protobuf_Edition> { .proto2 ... .edition2024 }

    func printHelp() {
        print(
            """
            protoc-gen-apus: a plugin of protoc that makes gRPC stubs for Apus.

              protoc --plugin=protoc-gen-apus --apus_out=DIR --apus_opt=Visibility=Public FILE.proto

            protoc-gen-swift of swift-protobuf makes the messages.
            """
        )
    }
}
