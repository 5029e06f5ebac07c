extension GatewayAPI {
  /// `sessionPersistence` of a rule.
  public struct Session: Hashable, Sendable {
    /// nil: one of the proxy's own making.
    public var name: String?
    public var isHeader: Bool
    public var absoluteTimeout: Duration?
    public var idleTimeout: Duration?
    public var isPermanent: Bool
  }
}

extension GatewayAPI.Session: FieldDecodable {
  private enum Kind: String, CaseIterable {
    case cookie = "Cookie"
    case header = "Header"
  }
  private enum Lifetime: String, CaseIterable {
    case permanent = "Permanent"
    case session = "Session"
  }
  private struct CookieConfig: FieldDecodable {
    let lifetime: Lifetime?
    init(_ fields: inout Fields) { lifetime = fields.name("lifetimeType") }
  }

  init(_ fields: inout Fields) {
    name = fields.text("sessionName")
    isHeader = fields.name("type") as Kind? == .header
    absoluteTimeout = fields.duration("absoluteTimeout", min: .seconds(1))
    idleTimeout = fields.duration("idleTimeout", min: .seconds(1))
    let cookie: CookieConfig? = fields.object("cookieConfig")
    isPermanent = cookie?.lifetime == .permanent
    if let name, name.utf8.count > 128 || !NameForm.isFieldName(name) {
      fields.error("sessionName", "'\(name.prefix(40))' is not a name of at most 128 letters, digits and -._~!#$%&'*+^`|")
    }
    if cookie != nil && isHeader { fields.error("cookieConfig", "cookieConfig can only be set with type Cookie") }
    if isPermanent && absoluteTimeout == nil && !fields.report.hasErrors {
      fields.error("absoluteTimeout", "absoluteTimeout must be specified when cookie lifetimeType is Permanent")
    }
  }
}

extension GatewayAPI.Session {
  /// What the proxy does for a rule.
  ///
  /// - Parameter rule: names it in the mesh, for sessions that have no name.
  func persistence(of rule: String, _ matches: [GatewayAPI.HTTPMatch]) -> SessionPersistence {
    let own = "mesh-session-" + String(EndpointCompiler.key(rule), radix: 16)
    let name = name ?? own
    return SessionPersistence(
      name: Array((isHeader ? name.lowercased() : name).utf8),
      carrier: isHeader ? .header : .cookie(path: Self.path(of: matches)),
      absoluteTimeout: absoluteTimeout, idleTimeout: idleTimeout, isPermanent: isPermanent)
  }

  /// The longest path, by whole segments, that every request of the rule begins with.
  private static func path(of matches: [GatewayAPI.HTTPMatch]) -> String {
    var common: [Substring]?
    for match in matches {
      let text: String
      switch match.path {
      case .exact(let path), .prefix(let path): text = match.grpc == nil ? path : ""
      case .regex: text = ""
      }
      let segments = text.split(separator: "/")
      common = common.map { known in zip(known, segments).prefix { $0 == $1 }.map(\.0) } ?? segments
    }
    return "/" + (common ?? []).joined(separator: "/")
  }
}
