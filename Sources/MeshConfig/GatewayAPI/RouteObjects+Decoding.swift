extension GatewayAPI.RouteParents {
  init(_ fields: inout Fields, hasHostnames: Bool = true) {
    parents = fields.references("parentRefs", kind: "Gateway", group: GatewayAPI.group)
    fields.note("useDefaultGateways", "routes name their Gateways")
    hostnames = []
    if parents.count > 32 { fields.error("parentRefs", "at most 32 parents") }
    for (index, parent) in parents.enumerated() where parents[..<index].contains(parent) {
      fields.report.error((fields.path / "parentRefs")[index], "sectionName or port must be unique among equal parentRefs")
    }
    guard hasHostnames else { return }
    let written = fields.strings("hostnames")
    if written.count > 16 { fields.error("hostnames", "at most 16 hostnames") }
    for (index, host) in written.enumerated() where !GatewayAPI.isHostname(host) {
      fields.report.error(
        (fields.path / "hostnames")[index], "'\(host.prefix(80))' is not a host name, or '*.' and one",
        hint: "write lower-case names")
    }
    hostnames = written.map { $0.lowercased() }
  }
}

extension GatewayAPI.HTTPRoute: FieldDecodable {
  init(_ fields: inout Fields) {
    common = GatewayAPI.RouteParents(&fields)
    let written: [GatewayAPI.HTTPRuleFields] = fields.list("rules")
    rules = written.isEmpty && !fields.has("rules") ? [.everything] : written.map(\.rule)
    GatewayAPI.HTTPRule.checkNames(rules, &fields)
  }
}

extension GatewayAPI.HTTPRule {
  /// A route without rules: everything, to nowhere.
  static let everything = GatewayAPI.HTTPRule(
    name: "", matches: [.everything], filters: [], backends: [], requestTimeout: nil, backendTimeout: nil, retry: nil)

  static func checkNames(_ rules: [Self], _ fields: inout Fields) {
    if rules.count > 16 { fields.error("rules", "at most 16 rules") }
    for (index, rule) in rules.enumerated()
    where !rule.name.isEmpty && rules[..<index].contains(where: { $0.name == rule.name }) {
      fields.report.error((fields.path / "rules")[index] / "name", "Rule name must be unique within the route")
    }
  }
}

extension GatewayAPI.HTTPMatch {
  static let everything = GatewayAPI.HTTPMatch(path: .prefix(""), headers: [], query: [], method: nil, grpc: nil)
}

extension GatewayAPI {
  struct HTTPRuleFields: FieldDecodable {
    let rule: HTTPRule
    init(_ fields: inout Fields) {
      let name = fields.text("name") ?? ""
      let matches: [HTTPMatch] = fields.list("matches")
      let filters = Filter.list(&fields)
      let backends: [Backend] = fields.list("backendRefs")
      let timeouts: Timeouts? = fields.object("timeouts")
      let retry: Retry? = fields.object("retry")
      let session: Session? = fields.object("sessionPersistence")
      if matches.count > 64 { fields.error("matches", "at most 64 matches") }
      Backend.check(backends, &fields)
      HTTPRule.check(filters, backends, matches, &fields)
      rule = HTTPRule(
        name: name, matches: matches.isEmpty ? [.everything] : matches, filters: filters, backends: backends,
        requestTimeout: timeouts?.request, backendTimeout: timeouts?.backend, retry: retry, session: session)
    }
  }

  private struct Timeouts: FieldDecodable {
    let request: Duration?
    let backend: Duration?
    init(_ fields: inout Fields) {
      request = fields.duration("request", min: .zero)
      backend = fields.duration("backendRequest", min: .zero)
      if let request, let backend, request != .zero, backend > request {
        fields.error("backendRequest", "backendRequest timeout cannot be longer than request timeout")
      }
    }
  }
}

extension GatewayAPI.HTTPRule {
  fileprivate static func check(
    _ filters: [GatewayAPI.Filter], _ backends: [GatewayAPI.Backend], _ matches: [GatewayAPI.HTTPMatch],
    _ fields: inout Fields
  ) {
    let redirects = filters.contains { if case .redirect = $0 { true } else { false } }
    let rewrites = filters.contains { if case .rewrite = $0 { true } else { false } }
    if redirects && !backends.isEmpty {
      fields.error("backendRefs", "RequestRedirect filter must not be used together with backendRefs")
    }
    if redirects && rewrites {
      fields.error(
        "filters", "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both")
    }
    let changesPrefix = (filters + backends.flatMap(\.filters)).contains { filter in
      switch filter {
      case .redirect(let redirect): if case .prefix? = redirect.path { true } else { false }
      case .rewrite(let rewrite): if case .prefix? = rewrite.path { true } else { false }
      default: false
      }
    }
    if changesPrefix && !matches.allSatisfy(\.isPrefix) {
      fields.error("filters", "when using ReplacePrefixMatch, every match must be of type PathPrefix")
    }
  }
}

extension GatewayAPI.HTTPMatch: FieldDecodable {
  fileprivate var isPrefix: Bool {
    if case .prefix = path { return true }
    return false
  }

  init(_ fields: inout Fields) {
    path = (fields.object("path") as PathFields?)?.path ?? .prefix("")
    headers = Self.unique(fields.list("headers") as [FieldFields], lowercased: true)
    query = Self.unique(fields.list("queryParams") as [FieldFields], lowercased: false)
    method = fields.string("method")
    grpc = nil
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
    if let method, !known.contains(method) {
      fields.error("method", "'\(method.prefix(40))' is not one of \(known.joined(separator: ", "))")
    }
  }

  /// Of entries with equivalent names the first counts.
  fileprivate static func unique(_ written: [FieldFields], lowercased: Bool) -> [GatewayAPI.Field] {
    var seen: Set<String> = []
    return written.map(\.field).compactMap { field in
      let name = lowercased ? field.name.lowercased() : field.name
      guard seen.insert(name).inserted else { return nil }
      return GatewayAPI.Field(name: name, value: field.value, isRegex: field.isRegex)
    }
  }

  private struct PathFields: FieldDecodable {
    let path: GatewayAPI.Path
    private enum Kind: String, CaseIterable {
      case exact = "Exact"
      case prefix = "PathPrefix"
      case regex = "RegularExpression"
    }
    init(_ fields: inout Fields) {
      let kind: Kind = fields.name("type") ?? .prefix
      let value = fields.string("value") ?? "/"
      switch kind {
      case .exact: path = .exact(value)
      case .prefix: path = .prefix(Self.withoutTrailingSlashes(value))
      case .regex:
        path = .regex(value)
        if let problem = Self.problem(ofPattern: value) { fields.error("value", problem) }
        return
      }
      if let problem = Self.problem(ofPath: value) { fields.error("value", problem) }
    }
    private static func withoutTrailingSlashes(_ value: String) -> String {
      var text = value[...]
      while text.hasSuffix("/") { text.removeLast() }
      return String(text)
    }
    private static func problem(ofPath value: String) -> String? {
      if !value.hasPrefix("/") { return "must be an absolute path: begin with '/'" }
      if value.utf8.count > 1024 { return "at most 1024 bytes" }
      let forbidden = ["//", "/./", "/../", "%2f", "%2F", "#"]
      if let found = forbidden.first(where: { value.holds($0) }) { return "must not contain '\(found)'" }
      return value.hasSuffix("/..") || value.hasSuffix("/.") ? "must not end with '/..' or '/.'" : nil
    }
    static func problem(ofPattern value: String) -> String? {
      do throws(PatternError) { _ = try Pattern(value) } catch { return error.reason }
      return nil
    }
  }
}

/// A header or query parameter with its value, as matches and modifiers write it.
struct FieldFields: FieldDecodable {
  let field: GatewayAPI.Field
  private enum Kind: String, CaseIterable {
    case exact = "Exact"
    case regex = "RegularExpression"
  }
  init(_ fields: inout Fields) {
    let kind: Kind = fields.name("type") ?? .exact
    let name = fields.requiredString("name")
    let value = fields.string("value") ?? ""
    if !name.isEmpty && !NameForm.isFieldName(name) { fields.error("name", "'\(name.prefix(80))' is not a header name") }
    if kind == .regex {
      do throws(PatternError) { _ = try Pattern(value) } catch { fields.error("value", error.reason) }
    } else if HeaderValueForm.hasControls(value) {
      fields.error("value", "has control characters")
    }
    field = GatewayAPI.Field(name: name, value: value, isRegex: kind == .regex)
  }
}

extension GatewayAPI.Retry: FieldDecodable {
  init(_ fields: inout Fields) {
    codes = fields.ints("codes", in: 400...599)
    attempts = fields.int("attempts", in: 0...Int(Int32.max))
    backoff = fields.duration("backoff")
  }
}

extension GatewayAPI.Backend: FieldDecodable {
  init(_ fields: inout Fields) {
    let target = ReferenceFields(&fields)
    reference = target.completed(kind: "Service", group: "")
    weight = fields.int("weight", in: 0...1_000_000) ?? 1
    filters = fields.has("filters") ? GatewayAPI.Filter.list(&fields) : []
  }

  static func check(_ backends: [Self], _ fields: inout Fields) {
    if backends.count > 16 { fields.error("backendRefs", "at most 16 backends") }
    for (index, backend) in backends.enumerated() {
      let reference = backend.reference
      if reference.group.isEmpty && reference.kind == "Service" && reference.port == nil {
        fields.report.error((fields.path / "backendRefs")[index] / "port", "Must have port for Service reference")
      }
    }
  }
}

extension GatewayAPI.GRPCRoute: FieldDecodable {
  init(_ fields: inout Fields) {
    common = GatewayAPI.RouteParents(&fields)
    rules = (fields.list("rules") as [Rule]).map(\.rule)
    GatewayAPI.HTTPRule.checkNames(rules, &fields)
  }

  private struct Rule: FieldDecodable {
    let rule: GatewayAPI.HTTPRule
    init(_ fields: inout Fields) {
      let name = fields.text("name") ?? ""
      let matches: [Match] = fields.list("matches")
      let filters = GatewayAPI.Filter.list(&fields)
      let backends: [GatewayAPI.Backend] = fields.list("backendRefs")
      let session: GatewayAPI.Session? = fields.object("sessionPersistence")
      GatewayAPI.Backend.check(backends, &fields)
      let any = GatewayAPI.HTTPMatch(
        path: .prefix(""), headers: [], query: [], method: nil,
        grpc: GatewayAPI.GRPCMethod(service: nil, method: nil, isRegex: false))
      rule = GatewayAPI.HTTPRule(
        name: name, matches: matches.isEmpty ? [any] : matches.map(\.match), filters: filters, backends: backends,
        requestTimeout: nil, backendTimeout: nil, retry: nil, session: session)
    }
  }

  private struct Match: FieldDecodable {
    let match: GatewayAPI.HTTPMatch
    init(_ fields: inout Fields) {
      let method = (fields.object("method") as Method?)?.method
      let headers = GatewayAPI.HTTPMatch.unique(fields.list("headers"), lowercased: true)
      let named = method ?? GatewayAPI.GRPCMethod(service: nil, method: nil, isRegex: false)
      match = GatewayAPI.HTTPMatch(path: named.path, headers: headers, query: [], method: nil, grpc: named)
    }
  }

  private struct Method: FieldDecodable {
    let method: GatewayAPI.GRPCMethod
    private enum Kind: String, CaseIterable {
      case exact = "Exact"
      case regex = "RegularExpression"
    }
    init(_ fields: inout Fields) {
      let kind: Kind = fields.name("type") ?? .exact
      method = GatewayAPI.GRPCMethod(
        service: fields.text("service"), method: fields.text("method"), isRegex: kind == .regex)
      if method.service == nil && method.method == nil && !fields.report.hasErrors {
        fields.error("service", "One or both of 'service' or 'method' must be specified")
      }
      for (name, value) in [("service", method.service), ("method", method.method)] {
        guard let value else { continue }
        if kind == .regex {
          do throws(PatternError) { _ = try Pattern(value) } catch { fields.error(name, error.reason) }
        } else if !value.utf8.allSatisfy({ NameForm.isAlphanumeric($0) || $0 == 0x5F || $0 == 0x2E && name == "service" }) {
          fields.error(name, "'\(value.prefix(80))' is not a gRPC \(name) name")
        }
      }
    }
  }
}

extension GatewayAPI.GRPCMethod {
  /// `/service/method`, where what is absent is any.
  var path: GatewayAPI.Path {
    switch (service, method) {
    case (nil, nil): return .prefix("")
    case (let service?, nil) where !isRegex: return .prefix("/\(service)")
    case (let service?, let method?) where !isRegex: return .exact("/\(service)/\(method)")
    case (nil, let method?) where !isRegex:
      return .regex("/[^/]+/\(method)")
    default: return .regex("/(?:\(service ?? "[^/]+"))/(?:\(method ?? "[^/]+"))")
    }
  }
}

extension GatewayAPI.ConnectionRoute {
  /// `TLSRoute`, whose hostnames are server names.
  struct TLSFields: FieldDecodable {
    let value: GatewayAPI.ConnectionRoute
    init(_ fields: inout Fields) {
      value = GatewayAPI.ConnectionRoute(common: GatewayAPI.RouteParents(&fields), rules: fields.list("rules"))
      if value.rules.isEmpty && !fields.report.hasErrors { fields.error("rules", "required") }
    }
  }
  /// `TCPRoute` and `UDPRoute`.
  struct PlainFields: FieldDecodable {
    let value: GatewayAPI.ConnectionRoute
    init(_ fields: inout Fields) {
      value = GatewayAPI.ConnectionRoute(
        common: GatewayAPI.RouteParents(&fields, hasHostnames: false), rules: fields.list("rules"))
      if value.rules.isEmpty && !fields.report.hasErrors { fields.error("rules", "required") }
    }
  }
}

extension GatewayAPI.ConnectionRule: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.text("name") ?? ""
    backends = fields.list("backendRefs")
    GatewayAPI.Backend.check(backends, &fields)
    if backends.isEmpty && !fields.report.hasErrors { fields.error("backendRefs", "required") }
  }
}

extension String {
  /// Whether `part` stands somewhere in the text, by bytes.
  fileprivate func holds(_ part: String) -> Bool {
    var rest = utf8[...]
    while rest.count >= part.utf8.count {
      if rest.starts(with: part.utf8) { return true }
      rest.removeFirst()
    }
    return false
  }
}
