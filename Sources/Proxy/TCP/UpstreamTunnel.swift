import Glibc
import HTTPCodec
import Primitives
import Traffic
import Transport

/// An opaque connection to another node: a CONNECT stream on a mesh connection that requests share (HBONE, as ztunnel
/// speaks it), as an end of a relay.
final class UpstreamTunnel: TCPEnd, UpstreamObserver {
  weak var observer: (any TCPEndObserver)?
  private weak var connecting: (any TCPConnectObserver)?
  private let head: RequestHead
  private var upstream: (any Upstream)?
  /// Bytes that came and were not taken.
  private var arrived: [UInt8] = []
  private var arrivedAt = 0
  private var isPaused = false
  private var hasEnded = false
  private var hasEndedWriting = false
  private var failure: Int32 = 0
  let addressText: String

  init(_ head: RequestHead, to address: SocketAddress, for observer: any TCPConnectObserver) {
    self.head = head
    connecting = observer
    addressText = address.description
  }

  var localAddressText: String { upstream?.localAddressText ?? "" }

  /// Takes the place of a stream, which tells by `upstreamConnected` when it is there unless it `isReady`.
  func begin(on place: HTTP2Upstream) {
    upstream = place
    if place.isReady { upstreamConnected(place) }
  }

  // MARK: What the stream tells

  func upstreamConnected(_ upstream: any Upstream) {
    upstream.begin(head, for: self)
    upstream.flush()
  }

  func upstreamInterim(_ head: inout ResponseHead) {}

  func upstreamResponded(_ head: inout ResponseHead) {
    let waiting = connecting
    connecting = nil
    guard head.status / 100 == 2 else {
      // Nothing was handed to the application, so another endpoint may be tried.
      upstream?.cancel()
      upstream = nil
      failure = ECONNREFUSED
      return waiting?.connectFailed(.refused) ?? ()
    }
    waiting?.connected(self)
  }

  func upstreamBody(_ bytes: UnsafeBufferPointer<UInt8>) {
    arrived.append(contentsOf: bytes)
    observer?.endReady(self)
    guard arrived.count - arrivedAt >= ProxyLimits.outputHighWater, !isPaused else { return }
    isPaused = true
    upstream?.pause()
  }

  func upstreamEnded(trailers: HeaderBlock?) {
    hasEnded = true
    // With both sides ended the stream is somebody else's to use.
    if hasEndedWriting { upstream = nil }
    observer?.endReady(self)
  }

  func upstreamFailed(_ failure: UpstreamFailure) {
    upstream = nil
    self.failure = ECONNRESET
    if let waiting = connecting {
      connecting = nil
      if case .connect(let reason) = failure.reason { return waiting.connectFailed(reason) }
      return waiting.connectFailed(.refused)
    }
    observer?.endReady(self)
  }

  func upstreamCanTakeMore() { observer?.endReady(self) }
  func flushClient() {}

  // MARK: An end of a relay

  func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    let waiting = arrived.count - arrivedAt
    guard waiting > 0 else {
      if hasEnded { return .endOfStream }
      return failure == 0 ? .wouldBlock : .failed(failure)
    }
    let count = min(buffer.count, waiting)
    arrived.withUnsafeBytes {
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[arrivedAt..<(arrivedAt + count)]))
    }
    arrivedAt += count
    if arrivedAt == arrived.count {
      if arrived.capacity > ProxyLimits.outputKeptBytes { arrived = [] } else { arrived.removeAll(keepingCapacity: true) }
      arrivedAt = 0
      if isPaused {
        isPaused = false
        upstream?.resume()
      }
    }
    return .bytes(count)
  }

  var hasMore: Bool { arrivedAt < arrived.count }

  func write(_ bytes: UnsafeRawBufferPointer) -> IOResult {
    guard failure == 0, let upstream else { return .failed(EPIPE) }
    guard upstream.pendingOutput < ProxyLimits.outputHighWater else {
      upstream.waitForRoom()
      upstream.flush()
      return .wouldBlock
    }
    bytes.withMemoryRebound(to: UInt8.self) { upstream.write($0) }
    return .bytes(bytes.count)
  }

  func flush() { upstream?.flush() }

  func endWriting() -> Bool {
    guard !hasEndedWriting else { return true }
    hasEndedWriting = true
    let ending = upstream
    if hasEnded { upstream = nil }
    ending?.end(trailers: nil)
    ending?.flush()
    return true
  }

  func close(abortively: Bool) {
    observer = nil
    connecting = nil
    let left = upstream
    upstream = nil
    left?.cancel()
  }

  func peekHello() -> ClientHello.Outcome? { nil }
  func accept() {}
  func refuse(_ refusal: TCPForwarding.Refusal) {}
  var plainDescriptor: Int32? { nil }
}

extension RequestHead {
  /// `CONNECT host:port` with what other nodes like to know; none of it gives identity.
  static func connect(to authority: String, source: [UInt8]?, forwardedFor client: String) -> RequestHead? {
    var text = Array("CONNECT \(authority) HTTP/1.1\r\nhost: \(authority)\r\nforwarded: for=\"\(client)\"\r\n".utf8)
    if let source { text += Array("x-mesh-source: ".utf8) + source + Array("\r\n".utf8) }
    text += Array("\r\n".utf8)
    var parser = RequestParser()
    var head = RequestHead()
    guard (try? parser.parse(text.span, from: 0, into: &head)) != nil else { return nil }
    return head
  }
}
