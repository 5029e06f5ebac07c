import HTTPCodec
import Primitives

/// Calls over the network: a new connection each, through the proxy where there is one.
///
/// No pooling: a mesh balances requests one by one only when each brings its own connection, as Bookinfo's clients do.
struct NetworkBackend: Backend {
  let proxies: Proxies

  func get(_ call: BackendCall) throws(CallError) -> BackendAnswer {
    let connected = Instant.now() + call.timeouts.connect
    let stream = try connect(call, until: connected)
    let answered = Instant.now() + call.timeouts.read
    do {
      try stream.write(try request(for: call), until: answered)
    } catch let error as CallError {
      throw error
    } catch {
      throw CallError(error, while: "sending the request")
    }
    return try answer(from: stream, until: answered)
  }

  // MARK: Connecting

  private func connect(_ call: BackendCall, until deadline: Instant) throws(CallError) -> any ByteStream {
    guard let proxy = proxies.proxy(host: call.host, isEncrypted: call.isEncrypted) else {
      let stream = try TCPStream.connect(host: call.host, port: call.port, until: deadline)
      return call.isEncrypted ? try TLSStream(over: stream, host: call.host, until: deadline) : stream
    }
    guard call.isEncrypted else { return try TCPStream.connect(host: proxy.host, port: proxy.port, until: deadline) }
    // Nothing can have come early: in TLS the client speaks first.
    let tunnel = try TCPStream.connect(host: call.host, port: call.port, through: proxy, until: deadline)
    return try TLSStream(over: tunnel.stream, host: call.host, until: deadline)
  }

  // MARK: Asking

  /// In origin form, or in absolute form to a proxy (RFC 9112 3.2.2). The port is left out where it is the scheme's own.
  private func request(for call: BackendCall) throws(CallError) -> [UInt8] {
    let host = call.host.contains(":") ? "[\(call.host)]" : call.host
    let authority = call.port == (call.isEncrypted ? 443 : 80) ? host : "\(host):\(call.port)"
    let parts = call.target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    var request = HTTPRequest(
      "GET", parts[0], query: parts.count > 1 ? parts[1] : nil, authority: authority,
      headers: [HTTPField("accept", "*/*")] + call.headers)
    request.keepsAlive = false
    guard var bytes = request.serialized() else { throw .unsendable }
    if !call.isEncrypted, proxies.proxy(host: call.host, isEncrypted: false) != nil {
      bytes.insert(contentsOf: "http://\(authority)".utf8, at: "GET ".utf8.count)
    }
    return bytes
  }

  private func answer(from stream: any ByteStream, until deadline: Instant) throws(CallError) -> BackendAnswer {
    var reader = ResponseReader(answering: .get, bodyBytesMax: Limits.bodyBytes)
    do {
      while true {
        let bytes = try stream.read(until: deadline)
        reader.receive(bytes)
        if let response = try bytes.isEmpty ? reader.finish() : reader.next() {
          return BackendAnswer(status: response.status, body: response.body)
        }
        guard !bytes.isEmpty else { throw StreamError.broken("the connection ended before an answer") }
      }
    } catch {
      throw CallError(error, while: "waiting for the answer")
    }
  }
}

extension CallError {
  init(_ error: any Error, while stage: String) {
    self =
      switch error {
      case let error as CallError: error
      case StreamError.timedOut: .timedOut(stage)
      case StreamError.broken(let reason): .notConnected("\(reason), while \(stage)")
      default: .malformedAnswer("\(error)")
      }
  }
}
