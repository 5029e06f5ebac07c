import CLinux
import MeshConfig
import Primitives
import Traffic
import Transport

extension Worker {
  /// Begins to connect an opaque connection's other end; the observer hears how it ended.
  func connectEnd(
    to address: SocketAddress, _ security: UpstreamSecurity, _ state: ServingState, _ keepAlive: TCPKeepAlive?,
    for observer: any TCPConnectObserver
  ) throws(ProxyError.ConnectFailure) -> any TCPEnd {
    let stream = try upstreamStream(to: address, security, state, forTCP: true)
    if let keepAlive {
      _ = cl_set_keep_alive(
        stream.descriptor, keepAlive.time.wholeSeconds, keepAlive.interval.wholeSeconds, Int32(clamping: keepAlive.probes ?? 0))
    }
    let end = SocketEnd(connecting: stream, address: address, loop: loop, for: observer)
    do throws(SystemError) {
      try end.open()
    } catch {
      end.close(abortively: true)
      throw .unreachable
    }
    return end
  }
}

extension Duration? {
  /// At least one second; 0 for none.
  fileprivate var wholeSeconds: Int32 { map { Int32(clamping: max(1, $0.components.seconds)) } ?? 0 }
}
