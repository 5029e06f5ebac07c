/// What one proxy sees and how it listens (`networking.istio.io` Sidecar).
public struct Sidecar: Hashable, Sendable {
  /// nil: every workload of the namespace.
  public var workloadSelector: [String: String]?
  public var ingress: [Ingress]
  public var egress: [Egress]
  public var inboundConnectionPool: DestinationRule.ConnectionPool?
  public var outboundPolicy: OutboundPolicy?

  public struct Port: Hashable, Sendable {
    public var number: UInt16
    public var name: String
    /// `HTTP_PROXY` here, too: the listener is a proxy for all ports of its hosts.
    public var `protocol`: String

    static let proxy = "HTTP_PROXY"
  }
  /// How connections come to a listener. Nothing is captured here, so that only `none` opens a port without `bind`.
  public enum CaptureMode: String, CaseIterable, Hashable, Sendable {
    case byDefault = "DEFAULT"
    case iptables = "IPTABLES"
    case none = "NONE"
  }
  public struct Egress: Hashable, Sendable {
    /// nil: the hosts that no other entry's port takes.
    public var port: Port?
    public var bind: String?
    public var captureMode: CaptureMode
    public var hosts: [Host]
  }
  /// `namespace/host`; a leading `~` of the namespace excludes.
  public struct Host: Hashable, Sendable {
    /// `*`, `.`, `~` or a namespace.
    public var namespace: String
    public var name: String
    public var isExcluded: Bool
  }
  public struct Ingress: Hashable, Sendable {
    public var port: Port
    public var bind: String?
    public var captureMode: CaptureMode
    /// `127.0.0.1:8080`, or a `unix://` path; nil: the workload's address and the same port.
    public var defaultEndpoint: String?
    public var tls: Gateway.TLS?
    public var connectionPool: DestinationRule.ConnectionPool?
  }
  public enum OutboundPolicy: String, CaseIterable, Hashable, Sendable {
    case registryOnly = "REGISTRY_ONLY"
    case allowAny = "ALLOW_ANY"
  }
}

extension Sidecar: FieldDecodable {
  init(_ fields: inout Fields) {
    workloadSelector = (fields.object("workloadSelector") as WorkloadSelector?)?.labels
    ingress = fields.list("ingress")
    egress = fields.list("egress")
    inboundConnectionPool = fields.object("inboundConnectionPool")
    let policy: Policy? = fields.object("outboundTrafficPolicy")
    outboundPolicy = policy?.mode
    guard !fields.report.hasErrors else { return }
    if ingress.isEmpty && egress.isEmpty && inboundConnectionPool == nil && policy == nil {
      fields.error("", "sidecar: empty configuration provided: write egress, ingress or outboundTrafficPolicy")
    }
    if policy?.hasEgressProxy == true && policy?.mode != .allowAny {
      fields.error(
        "outboundTrafficPolicy", "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode")
    }
  }

  private struct Policy: FieldDecodable {
    let mode: OutboundPolicy
    let hasEgressProxy: Bool
    init(_ fields: inout Fields) {
      mode = fields.name("mode") ?? .registryOnly
      let proxy: VirtualService.Destination? = fields.object("egressProxy")
      hasEgressProxy = proxy != nil
      if let proxy {
        fields.report.notEnforced(fields.path / "egressProxy", "requests go to their own destination")
        if !proxy.host.isEmpty && !NameForm.isHost(proxy.host) { fields.error("egressProxy", "host must be a host name") }
        if proxy.port == nil && !fields.report.hasErrors {
          fields.error("egressProxy", "sidecar: egress_proxy port is required")
        }
      }
    }
  }
}

extension Sidecar.Port: FieldDecodable {
  init(_ fields: inout Fields) {
    number = UInt16(truncatingIfNeeded: fields.int("number", in: 0...65535) ?? 0)
    name = fields.string("name") ?? ""
    let written = fields.text("protocol")
    if written?.uppercased() == Self.proxy {
      `protocol` = Self.proxy
    } else {
      `protocol` = (fields.protocolName("protocol") as Gateway.PortProtocol?)?.rawValue ?? ""
    }
    if !name.isEmpty && !NameForm.isLabel(name.lowercased()) { fields.error("name", "'\(name.prefix(80))' is not a port name") }
    if (fields.int("targetPort", in: 0...65535) ?? 0) > 0 {
      fields.error("targetPort", "targetPort has no effect on a Sidecar")
    }
  }
}

extension Sidecar.Egress: FieldDecodable {
  init(_ fields: inout Fields) {
    port = fields.object("port")
    bind = fields.text("bind")
    captureMode = fields.name("captureMode") ?? .byDefault
    let written = fields.strings("hosts")
    if written.isEmpty && !fields.report.hasErrors { fields.error("hosts", "sidecar: missing hosts: required") }
    let path = fields.path / "hosts"
    hosts = []
    for (index, text) in written.enumerated() {
      if let host = Sidecar.Host(text) {
        hosts.append(host)
      } else {
        fields.report.error(
          path[index], "'\(text.prefix(80))' is not namespace/host, with a whole host name or a wildcard for whole labels",
          hint: "write ./* for the own namespace")
      }
      if written[..<index].contains(text) { fields.report.warning(path[index], "duplicated egress host") }
    }
    if written.contains("*/*") && written.count > 1 {
      fields.report.warning(path, "*/* covers the other hosts", hint: "leave one of them out")
    }
    if let bind, !AddressForm.isAddress(bind) && !bind.hasPrefix("unix://") {
      fields.error("bind", "must be an IP address or a unix:// path")
    }
    if bind != nil && port == nil { fields.error("bind", "sidecar: egress listener without port cannot have bind") }
    if let bind, bind.hasPrefix("unix://"), let port {
      if port.number != 0 { fields.error("bind", "a Unix socket has no port: the port number must be 0") }
      if let problem = AddressForm.problem(ofSocket: bind) { fields.error("bind", problem) }
      if captureMode == .iptables { fields.error("captureMode", "must be DEFAULT or NONE for a Unix socket") }
    } else if port?.number == 0 {
      fields.error("port", "port must be between 1-65535")
    }
  }
}

extension Sidecar.Host {
  /// nil when `text` is not `namespace/host`.
  init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2 else { return nil }
    var namespace = parts[0]
    isExcluded = namespace.hasPrefix("~") && namespace.utf8.count > 1
    if isExcluded { namespace.removeFirst() }
    guard ["*", ".", "~"].contains(namespace) || NameForm.isLabel(namespace) else { return nil }
    let name = parts[1]
    guard name == "*" || name.utf8.contains(0x2E), !name.hasPrefix("*") || name == "*" || name.hasPrefix("*.") else {
      return nil
    }
    guard NameForm.isWildcardHost(name) else { return nil }
    self.namespace = namespace
    self.name = name.lowercased()
  }
}

extension Sidecar.Ingress: FieldDecodable {
  init(_ fields: inout Fields) {
    port = fields.required("port") ?? Sidecar.Port(number: 0, name: "", protocol: "")
    bind = fields.text("bind")
    captureMode = fields.name("captureMode") ?? .byDefault
    defaultEndpoint = fields.text("defaultEndpoint")
    tls = fields.object("tls")
    connectionPool = fields.object("connectionPool")
    if port.number == 0 && !fields.report.hasErrors { fields.error("port", "port must be between 1-65535") }
    if let bind, !AddressForm.isAddress(bind) { fields.error("bind", "must be an IP address") }
    if let defaultEndpoint, !Self.isEndpoint(defaultEndpoint) {
      fields.error(
        "defaultEndpoint",
        "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, "
          + "[::]:<port> or unix://filepath")
    }
    if let tls {
      if tls.httpsRedirect { fields.error("tls", "sidecar: ingress listener does not support httpsRedirect") }
      if tls.credentialName != nil { fields.error("tls", "sidecar: ingress listener does not support credentialName") }
      if !tls.subjectAltNames.isEmpty { fields.error("tls", "sidecar: ingress listener does not support subjectAltNames") }
      if tls.mode == .istioMutual || tls.mode == .autoPassthrough {
        fields.error("tls", "sidecar: ingress listener does not support mode \(tls.mode.rawValue)")
      }
    }
  }

  private static func isEndpoint(_ text: String) -> Bool {
    if text.hasPrefix("unix://") {
      let isPath = text.hasPrefix("unix:///") || text.hasPrefix("unix://@")
      return isPath && text.utf8.count - "unix://".utf8.count <= ConfigLimits.socketPathBytesMax
    }
    for host in ["127.0.0.1:", "0.0.0.0:", "[::1]:", "[::]:"] where text.hasPrefix(host) {
      return AuthorizationPolicy.port(String(text.dropFirst(host.count))) != nil
    }
    return false
  }
}
