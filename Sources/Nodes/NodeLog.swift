import FoundationEssentials
import Glibc
import Synchronization
import Telemetry

/// The node's log: one line an event, for people. Written at once; kept from flooding by the callers' state changes.
public final class NodeLog: Sendable {
  public enum Level: String, Sendable {
    case info, warning, error
  }

  private let descriptor: Int32
  private let node: String

  /// Appends to `path`, or writes to standard error.
  init(node: String, path: String?) throws(StartFailure) {
    self.node = node
    guard let path else {
      descriptor = STDERR_FILENO
      return
    }
    let opened = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
    guard opened >= 0 else { throw StartFailure("cannot write the log \(path): \(String(cString: strerror(errno)))") }
    descriptor = opened
  }

  /// Lines without a node's name on standard output.
  static let standardOutput = NodeLog(descriptor: STDOUT_FILENO)

  private init(descriptor: Int32) {
    node = ""
    self.descriptor = descriptor
  }

  deinit { if descriptor > STDERR_FILENO { close(descriptor) } }

  func info(_ text: String) { write(.info, text) }
  func warning(_ text: String) { write(.warning, text) }
  func error(_ text: String) { write(.error, text) }

  /// Raw bytes of the access log, which end in a line end each.
  func append(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { buffer in _ = Glibc.write(descriptor, buffer.baseAddress, buffer.count) }
  }

  private func write(_ level: Level, _ text: String) {
    let now = Date().timeIntervalSince1970
    let line = "\(Self.clock(now)) \(level.rawValue) \(node) \(Self.oneLine(text))\n"
    append(Array(line.utf8))
  }

  /// Names and messages of other hosts never break a line or reach a terminal as escapes.
  private static func oneLine(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }))
  }

  static func clock(_ unixSeconds: Double) -> String {
    var bytes: [UInt8] = []
    UTCTime.append(milliseconds: UInt64(max(0, unixSeconds * 1000)), to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// Why a node could not start: what is wrong and what to do.
public struct StartFailure: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
