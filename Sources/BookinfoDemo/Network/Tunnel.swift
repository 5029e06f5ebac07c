import HTTPCodec
import Primitives

extension TCPStream {
  /// Connects to the target, through the proxy where there is one (CONNECT, RFC 9110 9.3.6).
  ///
  /// - Returns: the stream, and what the target said right behind the proxy's answer: one that speaks first may be quick.
  static func connect(
    host: String, port: UInt16, through proxy: Proxies.Endpoint?, until deadline: Instant
  ) throws(CallError) -> (stream: TCPStream, early: [UInt8]) {
    guard let proxy else { return (try connect(host: host, port: port, until: deadline), []) }
    let stream = try connect(host: proxy.host, port: proxy.port, until: deadline)
    let name = host.contains(":") ? "[\(host)]" : host
    return (stream, try stream.openTunnel(to: "\(name):\(port)", until: deadline))
  }

  /// Asks the proxy at the other end for a tunnel; what came behind its answer.
  private func openTunnel(to target: String, until deadline: Instant) throws(CallError) -> [UInt8] {
    var head = ResponseHead()
    var bytes: [UInt8] = []
    do {
      try write(Array("CONNECT \(target) HTTP/1.1\r\nhost: \(target)\r\n\r\n".utf8), until: deadline)
      var parser = ResponseParser()
      while true {
        if let used = try parser.parse(bytes.span, from: 0, answering: .connect, into: &head) {
          bytes.removeFirst(used)
          break
        }
        let more = try read(until: deadline)
        guard !more.isEmpty else { throw StreamError.broken("the proxy ended the connection") }
        bytes += more
      }
    } catch {
      throw CallError(error, while: "asking the proxy for a tunnel")
    }
    guard head.status / 100 == 2 else { throw .refusedByProxy(status: head.status) }
    return bytes
  }
}
