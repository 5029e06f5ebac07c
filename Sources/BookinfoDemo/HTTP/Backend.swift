import HTTPCodec

/// A call a service makes to another.
struct BackendCall: Sendable {
  var host: String
  var port: UInt16
  /// Path and query.
  var target: String
  var headers: [HTTPField]
  var timeouts: CallTimeouts
  /// TLS 1.2 or later with a verified host name.
  var isEncrypted = false
}

/// The time for connecting, and the time from the sent request to the end of the answer.
struct CallTimeouts: Hashable, Sendable {
  var connect: Duration
  var read: Duration

  static func both(_ duration: Duration) -> CallTimeouts { CallTimeouts(connect: duration, read: duration) }
}

struct BackendAnswer: Sendable {
  var status: Int
  var body: [UInt8]
}

/// Why a call brought no answer.
enum CallError: Error, Hashable, Sendable, CustomStringConvertible {
  case unresolved(host: String)
  case notConnected(String)
  case timedOut(String)
  case tls(String)
  case malformedAnswer(String)
  case refusedByProxy(status: Int)
  case unsendable

  var description: String {
    switch self {
    case .unresolved(let host): "the name '\(host)' has no address"
    case .notConnected(let reason): "no connection: \(reason)"
    case .timedOut(let stage): "timed out while \(stage)"
    case .tls(let reason): "TLS: \(reason)"
    case .malformedAnswer(let reason): "malformed answer: \(reason)"
    case .unsendable: "the request has bytes that cannot be sent"
    case .refusedByProxy(let status): "the proxy refused the tunnel with status \(status)"
    }
  }
}

/// Where calls to other services go: the network, or a test's table.
protocol Backend: Sendable {
  func get(_ call: BackendCall) throws(CallError) -> BackendAnswer
}
