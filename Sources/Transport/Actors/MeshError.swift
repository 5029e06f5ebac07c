/// The one error that crosses between nodes: a code to act on, words to read, and whether trying again may help.
///
/// Whatever else a remote actor throws arrives as `internal` with its type's name only.
public struct MeshError: Error, Hashable, Sendable, Codable, CustomStringConvertible {
  public enum Code: UInt8, CaseIterable, Sendable, Codable {
    /// Something this side does not know a better word for; also every code of a newer version.
    case `internal` = 0
    /// No link to the node, or the link ended before the reply.
    case nodeUnreachable = 1
    /// The deadline passed; the call may or may not have run.
    case timeout = 2
    /// The caller's task was cancelled.
    case cancelled = 3
    /// A bounded queue was full.
    case overloaded = 4
    /// No actor of that name on the node.
    case unknownActor = 5
    /// The recipient's type has no such target; the peer may run another version.
    case unknownTarget = 6
    /// Arguments or a result that could not be decoded.
    case badArguments = 7
    /// The caller's identity may not do this.
    case unauthorized = 8
    /// The act carries an epoch that has been replaced.
    case staleEpoch = 9
    /// The recipient does not hold the role that the call needs.
    case notHolder = 10
    /// The state changed since the caller read it.
    case conflict = 11
    /// The request itself is wrong; the message says where.
    case invalid = 12
    /// Too few voters answered.
    case noQuorum = 13
    /// The recipient cannot serve now: starting, draining or closed.
    case unavailable = 14
    /// What was asked for does not exist.
    case notFound = 15
    /// The message is larger than a call may be.
    case tooLarge = 16
  }

  public var code: Code
  public var message: String
  /// True when the same call may succeed later, or elsewhere, without a change by the caller.
  public var retryable: Bool

  public init(_ code: Code, _ message: String, retryable: Bool? = nil) {
    self.code = code
    self.message = message
    self.retryable = retryable ?? Self.isRetryable(code)
  }

  /// The wire form of any error: itself, or `internal` with the type's name.
  public init(wrapping error: any Error) {
    switch error {
    case let error as MeshError: self = error
    case is CancellationError: self.init(.cancelled, "the call was cancelled")
    default: self.init(.internal, "\(type(of: error))")
    }
  }

  private static func isRetryable(_ code: Code) -> Bool {
    switch code {
    case .nodeUnreachable, .timeout, .overloaded, .notHolder, .noQuorum, .unavailable, .staleEpoch: true
    default: false
    }
  }

  public var description: String { "\(code): \(message)" }
}
