extension GatewayAPI.GatewayClass: FieldDecodable {
  init(_ fields: inout Fields) {
    controllerName = fields.requiredString("controllerName")
    _ = fields.string("description")
    fields.note("parametersRef", "there are no parameters")
    if !controllerName.isEmpty && !controllerName.utf8.contains(0x2F) {
      fields.error("controllerName", "must be of the form domain/path")
    }
  }
}

extension GatewayAPI.Gateway: FieldDecodable {
  init(_ fields: inout Fields) {
    className = fields.requiredString("gatewayClassName")
    listeners = fields.list("listeners")
    addresses = fields.list("addresses")
    let allowed: Allowed? = fields.object("allowedListeners")
    allowedListeners = allowed?.namespaces ?? .none
    let infrastructure: Infrastructure? = fields.object("infrastructure")
    labels = infrastructure?.labels ?? [:]
    annotations = infrastructure?.annotations ?? [:]
    hasParameters = infrastructure?.hasParameters ?? false
    let tls: TLS? = fields.object("tls")
    backendCertificate = tls?.backend
    frontend = tls?.frontend ?? GatewayAPI.FrontendTLS(byDefault: nil, ports: [:])
    fields.note("defaultScope", "routes name their Gateways")
    if infrastructure != nil { fields.report.notEnforced(fields.path / "infrastructure", "nothing is deployed for a Gateway") }
    if listeners.isEmpty && !fields.report.hasErrors { fields.error("listeners", "a Gateway needs at least one listener") }
    GatewayAPI.Listener.check(listeners, &fields)
  }

  private struct Allowed: FieldDecodable {
    let namespaces: GatewayAPI.NamespaceSelection
    init(_ fields: inout Fields) {
      namespaces = (fields.object("namespaces") as GatewayAPI.NamespaceFields?)?.selection ?? .none
    }
  }

  private struct Infrastructure: FieldDecodable {
    let labels: [String: String]
    let annotations: [String: String]
    let hasParameters: Bool
    init(_ fields: inout Fields) {
      labels = fields.stringMap("labels")
      annotations = fields.stringMap("annotations")
      hasParameters = fields.has("parametersRef")
    }
  }

  private struct TLS: FieldDecodable {
    let backend: GatewayAPI.ObjectReference?
    let frontend: GatewayAPI.FrontendTLS?
    init(_ fields: inout Fields) {
      backend = (fields.object("backend") as Backend?)?.certificate
      frontend = fields.object("frontend")
    }
  }
  private struct Backend: FieldDecodable {
    let certificate: GatewayAPI.ObjectReference?
    init(_ fields: inout Fields) { certificate = fields.reference("clientCertificateRef", kind: "Secret") }
  }
}

extension GatewayAPI.FrontendTLS: FieldDecodable {
  init(_ fields: inout Fields) {
    byDefault = (fields.required("default") as Setting?)?.validation
    let list: [PortSetting] = fields.list("perPort")
    ports = Dictionary(list.map { ($0.port, $0.setting?.validation) }) { first, _ in first }
  }
  private struct Setting: FieldDecodable {
    let validation: GatewayAPI.ClientValidation?
    init(_ fields: inout Fields) { validation = fields.object("validation") }
  }
  private struct PortSetting: FieldDecodable {
    let port: UInt16
    let setting: Setting?
    init(_ fields: inout Fields) {
      port = fields.requiredPort("port")
      setting = fields.required("tls")
    }
  }
}

extension GatewayAPI.ClientValidation: FieldDecodable {
  private enum Mode: String, CaseIterable {
    case validOnly = "AllowValidOnly"
    case fallback = "AllowInsecureFallback"
  }
  init(_ fields: inout Fields) {
    authorities = fields.references("caCertificateRefs", kind: "ConfigMap")
    allowsInsecureFallback = (fields.name("mode") as Mode?) == .fallback
  }
}

extension GatewayAPI.Address: FieldDecodable {
  init(_ fields: inout Fields) {
    type = fields.string("type") ?? "IPAddress"
    value = fields.string("value") ?? ""
    if type == "IPAddress" && !value.isEmpty && !AddressForm.isAddress(value) {
      fields.error("value", "'\(value.prefix(80))' is not an IP address")
    }
  }
}

extension GatewayAPI.Listener: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    let host = fields.text("hostname")
    hostname = host?.lowercased()
    port = fields.requiredPort("port")
    `protocol` = fields.requiredString("protocol")
    tls = fields.object("tls")
    let allowed: AllowedRoutes? = fields.object("allowedRoutes")
    allowedNamespaces = allowed?.namespaces ?? .same
    allowedKinds = allowed?.kinds ?? []
    if !name.isEmpty && !NameForm.isSubdomain(name) { fields.error("name", "'\(name.prefix(80))' is not a section name") }
    if let host, !GatewayAPI.isHostname(host) {
      fields.error("hostname", "'\(host.prefix(80))' is not a host name, or '*.' and one")
    }
    if fields.report.hasErrors { return }
    switch `protocol` {
    case "HTTP", "TCP", "UDP":
      if tls != nil { fields.error("tls", "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']") }
      if host != nil && `protocol` != "HTTP" {
        fields.error("hostname", "hostname must not be specified for protocols ['TCP', 'UDP']")
      }
    case "HTTPS":
      if tls?.isPassthrough == true { fields.error("tls", "tls mode must be Terminate for protocol HTTPS") }
      if tls == nil { fields.error("tls", "required for protocol HTTPS") }
    case "TLS":
      if tls == nil { fields.error("tls", "tls mode must be set for protocol TLS") }
    default: break
    }
  }

  private struct AllowedRoutes: FieldDecodable {
    let namespaces: GatewayAPI.NamespaceSelection?
    let kinds: [GatewayAPI.RouteKind]
    init(_ fields: inout Fields) {
      namespaces = (fields.object("namespaces") as GatewayAPI.NamespaceFields?)?.selection
      kinds = fields.list("kinds")
      if kinds.count > 8 { fields.error("kinds", "at most 8 kinds") }
    }
  }

  /// Listeners of one object: names, and (port, protocol, hostname), are unique.
  static func check(_ listeners: [Self], _ fields: inout Fields) {
    if listeners.count > 64 { fields.error("listeners", "at most 64 listeners") }
    for (index, listener) in listeners.enumerated() {
      let path = (fields.path / "listeners")[index]
      if listeners[..<index].contains(where: { $0.name == listener.name }) {
        fields.report.error(path / "name", "Listener name must be unique within the Gateway")
      }
      if listeners[..<index].contains(where: { $0.isSame(listener) }) {
        fields.report.error(path, "Combination of port, protocol and hostname must be unique for each listener")
      }
    }
  }

  private func isSame(_ other: Self) -> Bool {
    port == other.port && `protocol` == other.`protocol` && hostname == other.hostname
  }
}

extension GatewayAPI.RouteKind: FieldDecodable {
  init(_ fields: inout Fields) {
    group = fields.string("group") ?? GatewayAPI.group
    kind = fields.requiredString("kind")
  }
}

extension GatewayAPI.ListenerTLS: FieldDecodable {
  private enum Mode: String, CaseIterable {
    case terminate = "Terminate"
    case passthrough = "Passthrough"
  }
  init(_ fields: inout Fields) {
    isPassthrough = (fields.name("mode") as Mode?) == .passthrough
    certificates = fields.references("certificateRefs", kind: "Secret")
    if !fields.stringMap("options").isEmpty { fields.report.notEnforced(fields.path / "options", "no option is known") }
    if !isPassthrough && certificates.isEmpty && !fields.has("options") && !fields.report.hasErrors {
      fields.error("certificateRefs", "certificateRefs or options must be specified when mode is Terminate")
    }
  }
}

extension GatewayAPI {
  struct NamespaceFields: FieldDecodable {
    let selection: NamespaceSelection?
    private enum From: String, CaseIterable {
      case all = "All"
      case same = "Same"
      case selector = "Selector"
      case none = "None"
    }
    init(_ fields: inout Fields) {
      let selector: Selector? = fields.object("selector")
      switch fields.name("from") as From? {
      case .all: selection = .all
      case .same: selection = .same
      case .none?: selection = NamespaceSelection.none
      case .selector: selection = .selector(selector ?? Selector(labels: [:], expressions: []))
      case nil: selection = nil
      }
    }
  }

  /// A DNS name in lower case, or `*.` and one; no address.
  static func isHostname(_ text: String) -> Bool {
    let name = text.hasPrefix("*.") ? String(text.dropFirst(2)) : text
    return NameForm.isSubdomain(name) && !AddressForm.isAddress(name)
  }
}

extension GatewayAPI.Selector: FieldDecodable {
  init(_ fields: inout Fields) {
    labels = fields.stringMap("matchLabels")
    expressions = fields.list("matchExpressions")
  }
}

extension GatewayAPI.Selector.Expression: FieldDecodable {
  init(_ fields: inout Fields) {
    key = fields.requiredString("key")
    operation = fields.name("operator") ?? .exists
    values = fields.strings("values")
    if !fields.has("operator") { fields.error("operator", "required") }
    let takesValues = operation == .isIn || operation == .isNotIn
    if takesValues == values.isEmpty, fields.has("operator") {
      fields.error("values", takesValues ? "required for \(operation.rawValue)" : "must be empty for \(operation.rawValue)")
    }
  }
}

extension GatewayAPI.ListenerSet: FieldDecodable {
  init(_ fields: inout Fields) {
    parent =
      fields.reference("parentRef", kind: "Gateway", group: GatewayAPI.group)
      ?? GatewayAPI.ObjectReference(group: GatewayAPI.group, kind: "Gateway", name: "")
    listeners = fields.list("listeners")
    if parent.name.isEmpty && !fields.report.hasErrors { fields.error("parentRef", "required") }
    if listeners.isEmpty && !fields.report.hasErrors { fields.error("listeners", "at least one listener is required") }
    GatewayAPI.Listener.check(listeners, &fields)
  }
}

extension GatewayAPI.ReferenceGrant: FieldDecodable {
  init(_ fields: inout Fields) {
    from = fields.list("from")
    to = fields.list("to")
    if fields.report.hasErrors { return }
    if from.isEmpty { fields.error("from", "required") }
    if to.isEmpty { fields.error("to", "required") }
  }
}

extension GatewayAPI.ReferenceGrant.From: FieldDecodable {
  init(_ fields: inout Fields) {
    group = fields.string("group") ?? ""
    kind = fields.requiredString("kind")
    namespace = fields.requiredString("namespace")
  }
}

extension GatewayAPI.ReferenceGrant.To: FieldDecodable {
  init(_ fields: inout Fields) {
    group = fields.string("group") ?? ""
    kind = fields.requiredString("kind")
    name = fields.text("name")
  }
}

extension GatewayAPI.BackendTLSPolicy: FieldDecodable {
  init(_ fields: inout Fields) {
    targets = fields.references("targetRefs", kind: "Service")
    let validation: Validation? = fields.required("validation")
    authorities = validation?.authorities ?? []
    usesSystemAuthorities = validation?.usesSystem ?? false
    hostname = validation?.hostname ?? ""
    alternativeNames = validation?.names ?? []
    if !fields.stringMap("options").isEmpty { fields.report.notEnforced(fields.path / "options", "no option is known") }
    if targets.isEmpty && !fields.report.hasErrors { fields.error("targetRefs", "required") }
  }

  private struct Validation: FieldDecodable {
    let authorities: [GatewayAPI.ObjectReference]
    let usesSystem: Bool
    let hostname: String
    let names: [String]
    private enum WellKnown: String, CaseIterable { case system = "System" }
    init(_ fields: inout Fields) {
      authorities = fields.references("caCertificateRefs", kind: "ConfigMap")
      let wellKnown = fields.text("wellKnownCACertificates")
      usesSystem = wellKnown == WellKnown.system.rawValue
      hostname = fields.requiredString("hostname").lowercased()
      names = (fields.list("subjectAltNames") as [AlternativeName]).map(\.value)
      if fields.report.hasErrors { return }
      if authorities.isEmpty == (wellKnown == nil) {
        fields.error("caCertificateRefs", "exactly one of caCertificateRefs or wellKnownCACertificates must be set")
      }
    }
  }
  private struct AlternativeName: FieldDecodable {
    let value: String
    private enum Kind: String, CaseIterable {
      case hostname = "Hostname"
      case uri = "URI"
    }
    init(_ fields: inout Fields) {
      let kind = fields.name("type") as Kind?
      let hostname = fields.text("hostname")
      let uri = fields.text("uri")
      value = (kind == .uri ? uri : hostname) ?? ""
      if value.isEmpty && !fields.report.hasErrors { fields.error("type", "needs the value that it names") }
    }
  }
}

extension Fields {
  /// Takes a field that nothing acts on, and says so where it is written.
  mutating func note(_ name: String, _ consequence: String) {
    if has(name) { report.notEnforced(path / name, consequence) }
  }
}

extension GatewayAPI.ObjectReference {
  init(group: String, kind: String, name: String) {
    self.init(group: group, kind: kind, namespace: nil, name: name, sectionName: nil, port: nil)
  }
}

extension Fields {
  /// A reference with a group and kind of its own.
  mutating func reference(_ name: String, kind: String, group: String = "") -> GatewayAPI.ObjectReference? {
    (object(name) as ReferenceFields?)?.completed(kind: kind, group: group)
  }

  mutating func references(_ name: String, kind: String, group: String = "") -> [GatewayAPI.ObjectReference] {
    (list(name) as [ReferenceFields]).map { $0.completed(kind: kind, group: group) }
  }
}

struct ReferenceFields: FieldDecodable {
  let group: String?
  let kind: String?
  let namespace: String?
  let name: String
  let sectionName: String?
  let port: UInt16?

  init(_ fields: inout Fields) {
    group = fields.string("group")
    kind = fields.text("kind")
    namespace = fields.text("namespace")
    name = fields.requiredString("name")
    sectionName = fields.text("sectionName")
    port = fields.port("port")
  }

  func completed(kind byDefault: String, group: String) -> GatewayAPI.ObjectReference {
    GatewayAPI.ObjectReference(
      group: self.group ?? group, kind: kind ?? byDefault, namespace: namespace, name: name, sectionName: sectionName,
      port: port)
  }
}
