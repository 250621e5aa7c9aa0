// What a user of Apus names without knowing how it is layered: metadata, status codes, errors, addresses, loops.
@_exported public import ApusBase
@_exported public import ApusCompression
@_exported public import ApusEventLoop
@_exported public import ApusTLS
@_exported public import ApusTransport
