/// What can be fuzzed. Each takes any bytes, and traps where a promise of the code under it is broken.
public enum FuzzTarget: String, CaseIterable, Sendable {
  case http1Request = "http1-request"
  case http1Response = "http1-response"
  case chunked
  case http2Server = "http2-server"
  case http2Client = "http2-client"
  case http2Fields = "http2-fields"
  case clientHello = "client-hello"
  case proxyProtocol = "proxy-protocol"
  case path
  case linkFrames = "link-frames"
  case callMessages = "call-messages"

  public func run(_ bytes: [UInt8]) {
    switch self {
    case .http1Request: fuzzRequest(bytes)
    case .http1Response: fuzzResponse(bytes)
    case .chunked: fuzzChunked(bytes)
    case .http2Server: fuzzServer(bytes)
    case .http2Client: fuzzClient(bytes)
    case .http2Fields: fuzzFields(bytes)
    case .clientHello: fuzzClientHello(bytes)
    case .proxyProtocol: fuzzProxyProtocol(bytes)
    case .path: fuzzPath(bytes)
    case .linkFrames: fuzzLinkFrames(bytes)
    case .callMessages: fuzzCallMessages(bytes)
    }
  }
}

/// A promise of the code under test.
func promise(_ holds: Bool, _ what: @autoclosure () -> String, file: StaticString = #file, line: UInt = #line) {
  if !holds { fatalError("broken promise: \(what())", file: file, line: line) }
}
