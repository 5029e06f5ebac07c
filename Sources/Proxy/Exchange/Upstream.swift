import HTTPCodec
import Traffic
import Transport

/// The endpoint's side of one try: an HTTP/1 connection that carries one request at a time, or a stream of an HTTP/2
/// connection that carries many. It tells an `UpstreamObserver` what comes back.
protocol Upstream: AnyObject {
  /// Takes a request's head. Body and end follow.
  func begin(_ head: borrowing RequestHead, for observer: any UpstreamObserver)
  /// Bytes of the request's body, or of a tunnel.
  func write(_ body: UnsafeBufferPointer<UInt8>)
  /// The request is complete; in a tunnel, the client has nothing more to say.
  func end(trailers: HeaderBlock?)
  /// Bytes the endpoint has not taken.
  var pendingOutput: Int { get }
  /// Asks for `upstreamCanTakeMore` once there is room, perhaps from within the next `flush`.
  func waitForRoom()
  func flush()
  /// Stops reading until `resume`: the client takes bytes more slowly than they come.
  func pause()
  func resume()
  /// The exchange gives up; nobody hears of this try again.
  func cancel()

  /// Where the endpoint is, for logs.
  var addressText: String { get }
  var localAddressText: String { get }
  /// Requests go as streams of one HTTP/2 connection.
  var isHTTP2: Bool { get }
  /// What the connection says of its TLS; nil without.
  var tls: TLSSession? { get }
}

/// What an exchange is told by the upstream of its try. All calls come on the worker's thread.
protocol UpstreamObserver: AnyObject {
  /// A connection is there; `begin` can be called on this upstream.
  func upstreamConnected(_ upstream: any Upstream)
  /// An interim (1xx) response; the observer may change it as it passes.
  func upstreamInterim(_ head: inout ResponseHead)
  /// The final response's head, or the switch to another protocol (101); the observer may change it as it passes.
  func upstreamResponded(_ head: inout ResponseHead)
  /// Bytes of the response's body, or of a tunnel.
  func upstreamBody(_ bytes: UnsafeBufferPointer<UInt8>)
  /// The response is complete; the upstream looks after itself.
  func upstreamEnded(trailers: HeaderBlock?)
  /// The try came to nothing; the upstream looks after itself.
  func upstreamFailed(_ failure: UpstreamFailure)
  /// Room for more of the request body.
  func upstreamCanTakeMore()
  /// Writes to the client what the calls before have queued.
  func flushClient()
}

/// Why a try could not be carried to its end, and how much of it may have been seen.
struct UpstreamFailure: Equatable {
  enum Reason: Equatable {
    /// No connection came about: refused, unreachable, timed out, or TLS failed. Nothing was sent.
    case connect(ProxyError.ConnectFailure)
    /// The peer said that it did not process the request, so it is safe elsewhere: a refused stream, or one beyond GOAWAY's
    /// last (RFC 9113 8.7).
    case notProcessed
    /// The peer closed in an orderly way before the response was complete.
    case closed
    /// The connection broke, or the peer reset the stream.
    case reset
    /// The response was not valid HTTP.
    case malformed(MessageError)
  }

  var reason: Reason
  /// A byte of the request may have reached the peer.
  var isSent = true
  /// A kept connection that ended before a byte of an answer: its peer had closed it while it lay idle.
  var isStale = false

  init(_ reason: Reason, isSent: Bool = true, isStale: Bool = false) {
    self.reason = reason
    self.isSent = isSent
    self.isStale = isStale
  }

  /// The cause that the client is told.
  var error: ProxyError {
    switch reason {
    case .connect(let failure): .connectFailed(failure)
    case .notProcessed: .notProcessed
    case .closed: .upstreamClosed
    case .reset: .upstreamReset
    case .malformed: .upstreamProtocolError
    }
  }
}
