/// The process at the other end of a unix socket, as the kernel knew it when the socket was connected (SO_PEERCRED).
///
/// User and group can be relied on. The process may have ended since, and its id be another's.
public struct UnixCredentials: Hashable, Sendable {
    public let processID: Int32
    public let userID: UInt32
    public let groupID: UInt32

    public init(processID: Int32, userID: UInt32, groupID: UInt32) {
        self.processID = processID
        self.userID = userID
        self.groupID = groupID
    }
}
