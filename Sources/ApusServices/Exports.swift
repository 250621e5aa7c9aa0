// The messages and stubs of the services, and the messages of rich errors, which a user of them names.
@_exported public import ApusServiceProtos
