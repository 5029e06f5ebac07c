import HTTPCodec
import Transport

/// What the command line says.
struct Options {
  let mode: String
  private var values: [String: String] = [:]

  init(_ arguments: some Sequence<String>) throws {
    var rest = Array(arguments)[...]
    guard let mode = rest.popFirst() else { throw LoadError("which mode?") }
    self.mode = mode
    while let name = rest.popFirst() {
      guard name.hasPrefix("--"), let value = rest.popFirst() else { throw LoadError("'\(name)' is no option with a value") }
      values[String(name.dropFirst(2))] = value
    }
  }

  func text(_ name: String, _ fallback: String) -> String { values[name] ?? fallback }
  func optional(_ name: String) -> String? { values[name] }

  func number(_ name: String, _ fallback: Int) throws -> Int {
    guard let text = values[name] else { return fallback }
    guard let number = Int(text), number >= 0 else { throw LoadError("--\(name) is not a number: '\(text)'") }
    return number
  }

  func address(_ name: String) throws -> SocketAddress {
    let text = values[name] ?? ""
    guard let colon = text.lastIndex(of: ":"), let ip = IPAddress(text[..<colon]),
      let port = UInt16(text[text.index(after: colon)...])
    else { throw LoadError("--\(name) needs IP:PORT, not '\(text)'") }
    return .ip(ip, port: port)
  }

  /// The request that all clients send.
  func request() throws -> [UInt8] {
    let path = text("path", "/bytes/1024")
    guard let bytes = HTTPRequest("GET", path, authority: text("host", "origin.bench")).serialized() else {
      throw LoadError("--path or --host cannot stand in a request")
    }
    return bytes
  }
}
