import CLinux
import Glibc

/// A system call that failed: what was tried, and why not.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was tried, with its object: "bind 127.0.0.1:15010".
  public let operation: String
  /// The `errno`.
  public let code: Int32

  public init(_ operation: String, code: Int32) {
    self.operation = operation
    self.code = code
  }

  public var description: String { "\(operation): \(Self.text(code))" }

  /// The system's words for an error number, in lower case.
  public static func text(_ code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
    let text = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    return text.prefix(1).lowercased() + text.dropFirst()
  }

  /// Passes on a result, or throws when it is a negated error number.
  static func check(_ result: Int32, _ operation: @autoclosure () -> String) throws(SystemError) -> Int32 {
    guard result < 0 else { return result }
    throw SystemError(operation(), code: -result)
  }

  /// The `errno` of a call that has just failed.
  static func last(_ operation: String) -> SystemError { SystemError(operation, code: errno) }
}

/// Process-wide settings a node makes once, before it opens sockets.
public enum ProcessSettings {
  /// Writes to a closed connection then fail with EPIPE instead of ending the process.
  public static func ignoreBrokenPipe() { cl_ignore_broken_pipe() }

  /// No core dump, and no tracing by other processes of the user: both would show private keys.
  public static func protectMemory() throws(SystemError) {
    _ = try SystemError.check(cl_set_dumpable(false), "disable core dumps")
  }

  /// Raises the limit of open descriptors to what the system allows, and returns it.
  public static func raiseDescriptorLimit() throws(SystemError) -> Int {
    let limit = cl_raise_descriptor_limit()
    guard limit >= 0 else { throw SystemError("raise the limit of open files", code: Int32(clamping: -limit)) }
    return Int(limit)
  }
}

/// What a nonblocking read or write came to.
public enum IOResult: Hashable, Sendable {
  /// So many bytes were moved; never 0.
  case bytes(Int)
  /// Nothing now; an edge will tell when to try again.
  case wouldBlock
  /// The peer ended its side in an orderly way.
  case endOfStream
  /// The connection is broken, with this `errno`.
  case failed(Int32)
}
