import Primitives

/// Which proxy the calls of this process go through, from the environment, by curl's rules: `http_proxy` in lower case
/// only (a CGI script's `HTTP_PROXY` comes from a request), `https_proxy` and `no_proxy` in either case.
struct Proxies: Hashable, Sendable {
  struct Endpoint: Hashable, Sendable {
    var host: String
    var port: UInt16
  }

  private let plain: Endpoint?
  private let encrypted: Endpoint?
  private let exceptions: [String]

  init(environment: Environment) throws(UsageError) {
    plain = try Self.endpoint("http_proxy", in: environment)
    let variable = environment.nonEmpty("https_proxy") == nil ? "HTTPS_PROXY" : "https_proxy"
    encrypted = try Self.endpoint(variable, in: environment)
    let list = environment.nonEmpty("no_proxy") ?? environment.nonEmpty("NO_PROXY") ?? ""
    exceptions = list.lowercased().split(whereSeparator: { $0 == "," || $0 == " " }).map { entry in
      String(entry.first == "." ? entry.dropFirst() : entry)
    }
  }

  /// The proxy for a call; nil to connect directly.
  func proxy(host: String, isEncrypted: Bool) -> Endpoint? {
    isException(host.lowercased()) ? nil : isEncrypted ? encrypted : plain
  }

  private func isException(_ host: String) -> Bool {
    exceptions.contains { $0 == "*" || host == $0 || host.utf8.suffix($0.utf8.count + 1).elementsEqual(".\($0)".utf8) }
  }

  /// `http://host:port`, the scheme optional, the port 80 when left out.
  private static func endpoint(_ variable: String, in environment: Environment) throws(UsageError) -> Endpoint? {
    guard let text = environment.nonEmpty(variable) else { return nil }
    var rest = text[...]
    if rest.lowercased().hasPrefix("http://") { rest = rest.dropFirst(7) }
    while rest.last == "/" { rest = rest.dropLast() }
    let wish = "write it as http://127.0.0.1:15001"
    guard !rest.isEmpty, !rest.contains("/") else { throw UsageError("\(variable)='\(text)' is not a proxy: \(wish)") }
    guard !rest.contains("@") else {
      throw UsageError("\(variable) names a user; proxies with passwords are not used: \(wish)")
    }
    guard let (host, port) = split(rest) else { throw UsageError("\(variable)='\(text)' has no valid port: \(wish)") }
    return Endpoint(host: host, port: port)
  }

  private static func split(_ authority: Substring) -> (String, UInt16)? {
    var host = authority
    var port: Substring?
    if let end = authority.lastIndex(of: "]") {
      host = authority[..<end].dropFirst()
      let after = authority[authority.index(after: end)...]
      port = after.isEmpty ? nil : after.dropFirst()
    } else if let colon = authority.lastIndex(of: ":") {
      host = authority[..<colon]
      port = authority[authority.index(after: colon)...]
    }
    guard let port else { return host.isEmpty ? nil : (String(host), 80) }
    guard !host.isEmpty, let number = parseDecimal(port.utf8, max: 65_535), number > 0 else { return nil }
    return (String(host), UInt16(number))
  }
}
