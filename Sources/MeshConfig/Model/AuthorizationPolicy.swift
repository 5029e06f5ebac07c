/// Who may do what at a workload (`security.istio.io` AuthorizationPolicy).
public struct AuthorizationPolicy: Hashable, Sendable {
  public var target: PolicyTarget
  public var action: Action
  /// CUSTOM only: an extension provider's name.
  public var provider: String?
  /// Empty: with ALLOW nothing is allowed.
  public var rules: [Rule]

  public enum Action: String, CaseIterable, Hashable, Sendable {
    case allow = "ALLOW"
    case deny = "DENY"
    case audit = "AUDIT"
    case custom = "CUSTOM"
  }

  /// Any source, any operation and all conditions must match; an empty list matches everything.
  public struct Rule: Hashable, Sendable {
    public var from: [Source]
    public var to: [Operation]
    public var when: [Condition]
  }

  public struct Source: Hashable, Sendable {
    public var principals: Values
    public var requestPrincipals: Values
    public var namespaces: Values
    public var serviceAccounts: Values
    public var trustDomains: Values
    public var ipBlocks: Values
    public var remoteIPBlocks: Values
  }

  public struct Operation: Hashable, Sendable {
    public var hosts: Values
    public var ports: Values
    public var methods: Values
    public var paths: Values
  }

  public struct Condition: Hashable, Sendable {
    public var key: String
    public var values: Values
  }

  /// A list and its negated twin; both hold together.
  public struct Values: Hashable, Sendable {
    public var any: [String]
    public var none: [String]
    public var isEmpty: Bool { any.isEmpty && none.isEmpty }
  }
}

extension AuthorizationPolicy: FieldDecodable {
  init(_ fields: inout Fields) {
    target = PolicyTarget(&fields)
    action = fields.name("action") ?? .allow
    provider = (fields.object("provider") as Provider?)?.name
    rules = fields.list("rules")
    if rules.count > 512 { fields.error("rules", "at most 512 rules") }
  }

  private struct Provider: FieldDecodable {
    let name: String
    init(_ fields: inout Fields) { name = fields.string("name") ?? "" }
  }
}

extension AuthorizationPolicy.Rule: FieldDecodable {
  init(_ fields: inout Fields) {
    let sources: [SourceItem] = fields.list("from")
    let operations: [OperationItem] = fields.list("to")
    from = sources.compactMap(\.source)
    to = operations.compactMap(\.operation)
    when = fields.list("when")
    if sources.count > 512 { fields.error("from", "at most 512 sources") }
    if fields.has("from") && sources.isEmpty && !fields.report.hasErrors {
      fields.error("from", "an empty list would match nothing", hint: "leave it out to match every source")
    }
    if fields.has("to") && operations.isEmpty && !fields.report.hasErrors {
      fields.error("to", "an empty list would match nothing", hint: "leave it out to match every operation")
    }
  }

  private struct SourceItem: FieldDecodable {
    let source: AuthorizationPolicy.Source?
    init(_ fields: inout Fields) { source = fields.required("source") }
  }
  private struct OperationItem: FieldDecodable {
    let operation: AuthorizationPolicy.Operation?
    init(_ fields: inout Fields) { operation = fields.required("operation") }
  }
}

extension AuthorizationPolicy.Values {
  init(_ fields: inout Fields, _ name: String, not: String) {
    any = fields.filledStrings(name)
    none = fields.filledStrings(not)
  }
}

extension AuthorizationPolicy.Source: FieldDecodable {
  init(_ fields: inout Fields) {
    principals = AuthorizationPolicy.Values(&fields, "principals", not: "notPrincipals")
    requestPrincipals = AuthorizationPolicy.Values(&fields, "requestPrincipals", not: "notRequestPrincipals")
    namespaces = AuthorizationPolicy.Values(&fields, "namespaces", not: "notNamespaces")
    serviceAccounts = AuthorizationPolicy.Values(&fields, "serviceAccounts", not: "notServiceAccounts")
    trustDomains = AuthorizationPolicy.Values(&fields, "trustDomains", not: "notTrustDomains")
    ipBlocks = AuthorizationPolicy.Values(&fields, "ipBlocks", not: "notIpBlocks")
    remoteIPBlocks = AuthorizationPolicy.Values(&fields, "remoteIpBlocks", not: "notRemoteIpBlocks")
    let all = [principals, requestPrincipals, namespaces, serviceAccounts, trustDomains, ipBlocks, remoteIPBlocks]
    if all.allSatisfy(\.isEmpty) && !fields.report.hasErrors { fields.error("", "a source needs at least one condition") }
    if !serviceAccounts.isEmpty && !(principals.isEmpty && namespaces.isEmpty) {
      fields.error("serviceAccounts", "Cannot set serviceAccounts with namespaces or principals")
    }
    for (name, list) in [("serviceAccounts", serviceAccounts.any), ("notServiceAccounts", serviceAccounts.none)] {
      if list.count > 16 { fields.error(name, "at most 16 items") }
      for (index, account) in list.enumerated() {
        let parts = account.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count > 2 || parts.contains(where: { !NameForm.isSubdomain(String($0)) }) {
          fields.report.error((fields.path / name)[index], "'\(account.prefix(80))' is not 'namespace/account' or 'account'")
        }
      }
    }
    for (name, list) in [
      ("ipBlocks", ipBlocks.any), ("notIpBlocks", ipBlocks.none), ("remoteIpBlocks", remoteIPBlocks.any),
      ("notRemoteIpBlocks", remoteIPBlocks.none),
    ] {
      for (index, block) in list.enumerated() where !AddressForm.isBlock(block) {
        fields.report.error((fields.path / name)[index], "'\(block.prefix(80))' is not an IP address or CIDR block")
      }
    }
  }
}

extension AuthorizationPolicy.Operation: FieldDecodable {
  init(_ fields: inout Fields) {
    hosts = AuthorizationPolicy.Values(&fields, "hosts", not: "notHosts")
    ports = AuthorizationPolicy.Values(&fields, "ports", not: "notPorts")
    methods = AuthorizationPolicy.Values(&fields, "methods", not: "notMethods")
    paths = AuthorizationPolicy.Values(&fields, "paths", not: "notPaths")
    if [hosts, ports, methods, paths].allSatisfy(\.isEmpty) && !fields.report.hasErrors {
      fields.error("", "an operation needs at least one condition")
    }
    for (name, list) in [("ports", ports.any), ("notPorts", ports.none)] {
      for (index, port) in list.enumerated() where AuthorizationPolicy.port(port) == nil {
        fields.report.error((fields.path / name)[index], "'\(port.prefix(40))' is not a port: port must be between 1-65535")
      }
    }
    for (name, list) in [("paths", paths.any), ("notPaths", paths.none)] {
      for (index, path) in list.enumerated() {
        if let problem = PathTemplate.problem(path) { fields.report.error((fields.path / name)[index], problem) }
      }
    }
  }
}

extension AuthorizationPolicy {
  static func port(_ text: String) -> UInt16? { UInt16(text).flatMap { $0 > 0 && !text.hasPrefix("+") ? $0 : nil } }
}

/// Path templates of authorization rules: `{*}` is one segment, `{**}` any number and only at the end.
enum PathTemplate {
  static func isTemplate(_ path: String) -> Bool { path.utf8.contains(0x7B) || path.utf8.contains(0x7D) }

  static func problem(_ path: String) -> String? {
    guard isTemplate(path) else {
      let stars = path.utf8.count { $0 == 0x2A }
      let atEnd = path.hasPrefix("*") || path.hasSuffix("*")
      return stars == 0 || stars == 1 && atEnd ? nil : "'\(path.prefix(80))': one '*' may stand at the start or the end"
    }
    let segments = path.split(separator: "/", omittingEmptySubsequences: false)
    for (index, segment) in segments.enumerated() {
      if segment == "{*}" { continue }
      if segment == "{**}" {
        if index == segments.count - 1 { continue }
        return "'\(path.prefix(80))': {**} must be the last segment"
      }
      if segment.utf8.contains(where: { $0 == 0x7B || $0 == 0x7D || $0 == 0x2A }) {
        return "'\(path.prefix(80))': a segment of a template is {*}, {**} or literal text"
      }
    }
    return path.hasPrefix("/") ? nil : "'\(path.prefix(80))': a path template begins with '/'"
  }
}

extension AuthorizationPolicy.Condition: FieldDecodable {
  init(_ fields: inout Fields) {
    key = fields.requiredString("key")
    values = AuthorizationPolicy.Values(&fields, "values", not: "notValues")
    if values.isEmpty && !key.isEmpty && !fields.report.hasErrors {
      fields.error("values", "at least one of values and notValues is required")
    }
    if !key.isEmpty, let problem = Self.problem(ofKey: key) { fields.error("key", problem) }
    if key == "destination.port" {
      for value in values.any + values.none where AuthorizationPolicy.port(value) == nil {
        fields.error("values", "'\(value.prefix(40))' is not a port: port must be between 1-65535")
      }
    }
    if ["source.ip", "remote.ip", "destination.ip"].contains(key) {
      for value in values.any + values.none where !AddressForm.isBlock(value) {
        fields.error("values", "'\(value.prefix(80))' is not an IP address or CIDR block")
      }
    }
  }

  static let plainKeys: Set<String> = [
    "source.ip", "remote.ip", "source.namespace", "source.serviceAccount", "source.principal", "source.trustDomain",
    "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "destination.ip", "destination.port",
    "connection.sni",
  ]

  private static func problem(ofKey key: String) -> String? {
    if plainKeys.contains(key) || key.hasPrefix("experimental.envoy.filters.") { return nil }
    for prefix in ["request.headers", "request.auth.claims"] where key.hasPrefix("\(prefix)[") {
      let inner = key.dropFirst(prefix.count + 1).dropLast()
      return key.hasSuffix("]") && !inner.isEmpty ? nil : "'\(key.prefix(80))' needs a name in brackets"
    }
    return "unknown attribute '\(key.prefix(80))'"
  }
}
