extension Gateway: FieldDecodable {
  init(_ fields: inout Fields) {
    selector = fields.stringMap("selector")
    servers = fields.list("servers")
    if servers.isEmpty && !fields.report.hasErrors { fields.error("servers", "a Gateway needs at least one server") }
    let names = servers.map(\.portName).filter { !$0.isEmpty }
    for (index, name) in names.enumerated() where names[..<index].contains(name) {
      fields.error("servers", "the port name '\(name.prefix(80))' stands twice", hint: "port names are unique in a Gateway")
    }
  }
}

extension Gateway.Server: FieldDecodable {
  init(_ fields: inout Fields) {
    let port: Port? = fields.required("port")
    hosts = fields.strings("hosts")
    bind = fields.text("bind")
    tls = fields.object("tls")
    name = fields.string("name") ?? ""
    if !name.isEmpty { fields.report.notEnforced(fields.path / "name", "metrics and lists name the port instead") }
    if fields.string("defaultEndpoint") != nil { fields.report.notEnforced(fields.path / "defaultEndpoint", "routes decide") }
    self.port = port?.number ?? 0
    portName = port?.name ?? ""
    `protocol` = port?.`protocol` ?? .http
    guard port != nil else { return }
    checkBind(&fields)
    checkTLS(&fields)
  }

  private struct Port: FieldDecodable {
    var number: UInt16
    var name: String
    var `protocol`: Gateway.PortProtocol?
    init(_ fields: inout Fields) {
      // 0 stands with a Unix socket, which `checkBind` looks at.
      number = UInt16(truncatingIfNeeded: fields.requiredInt("number", in: 0...65535) ?? 0)
      name = fields.requiredString("name")
      if !fields.has("protocol") { fields.error("protocol", "required") }
      `protocol` = fields.protocolName("protocol")
      if (fields.int("targetPort", in: 0...65535) ?? 0) > 0 {
        fields.error("targetPort", "targetPort has no effect on a Gateway")
      }
    }
  }

  private func checkBind(_ fields: inout Fields) {
    guard let bind else {
      if port == 0 { fields.error("port", "the port number must be 1–65535") }
      return
    }
    if bind.hasPrefix("unix://") {
      if port != 0 { fields.error("bind", "a Unix socket has no port: the port number must be 0") }
      if let problem = AddressForm.problem(ofSocket: bind) { fields.error("bind", problem) }
    } else {
      if !AddressForm.isAddress(bind) { fields.error("bind", "must be an IP address or a unix:// path") }
      if port == 0 { fields.error("port", "the port number must be 1–65535") }
    }
  }

  private func checkTLS(_ fields: inout Fields) {
    guard let tls else {
      if `protocol`.needsTLS { fields.error("tls", "required for protocol \(`protocol`.rawValue)") }
      return
    }
    if !`protocol`.needsTLS {
      if !`protocol`.isPlaintextHTTP || !tls.terminatesNothing {
        fields.error("tls", "a \(`protocol`.rawValue) port has no TLS settings", hint: "only httpsRedirect fits, on HTTP")
      }
      return
    }
    if tls.httpsRedirect { fields.report.warning(fields.path / "tls" / "httpsRedirect", "has no effect on a TLS port") }
    let suites = fields.path / "tls" / "cipherSuites"
    for (index, suite) in tls.cipherSuites.enumerated() {
      if !Self.cipherSuites.contains(suite) {
        fields.report.warning(suites[index], "'\(suite.prefix(60))' is no cipher suite of TLS 1.2 and is left out")
      } else if tls.cipherSuites[..<index].contains(suite) {
        fields.report.warning(suites[index], "\(suite) stands twice")
      }
    }
  }

  /// Those that Istio knows, by OpenSSL's names.
  private static let cipherSuites: Set<String> = [
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384",
    "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA",
  ]
}

extension Fields {
  /// A protocol name in any case, as Istio accepts it.
  mutating func protocolName<T: RawRepresentable & CaseIterable>(_ name: String) -> T? where T.RawValue == String {
    guard let text = string(name), !text.isEmpty else { return nil }
    if let value = T(rawValue: text.uppercased()) { return value }
    let names = T.allCases.map(\.rawValue)
    error(name, "'\(text.prefix(40))' is not one of \(names.joined(separator: ", "))")
    return nil
  }
}

extension Gateway.TLS: FieldDecodable {
  init(_ fields: inout Fields) {
    httpsRedirect = fields.bool("httpsRedirect") ?? false
    mode = fields.name("mode") ?? .passthrough
    serverCertificate = fields.text("serverCertificate")
    privateKey = fields.text("privateKey")
    caCertificates = fields.text("caCertificates")
    credentialName = fields.text("credentialName")
    subjectAltNames = fields.strings("subjectAltNames")
    minVersion = fields.name("minProtocolVersion")
    maxVersion = fields.name("maxProtocolVersion")
    credentialNames = fields.strings("credentialNames")
    certificates = fields.list("tlsCertificates")
    caCredentialName = fields.text("caCertCredentialName")
    revocations = fields.text("caCrl")
    cipherSuites = fields.strings("cipherSuites")
    curves = fields.strings("ecdhCurves")
    certificateHashes = fields.strings("verifyCertificateHash")
    publicKeyHashes = fields.strings("verifyCertificateSpki")
    insecureSkipVerify = fields.bool("insecureSkipVerify") ?? false

    let files = serverCertificate != nil || privateKey != nil
    let sources = [credentialName != nil, !credentialNames.isEmpty, !certificates.isEmpty, files].count { $0 }
    for (name, isEmpty) in [("credentialNames", credentialNames.isEmpty), ("tlsCertificates", certificates.isEmpty)]
    where isEmpty && fields.has(name) { fields.error(name, "must have an item: leave it out otherwise") }
    if credentialNames.count > 2 { fields.error("credentialNames", "at most 2") }
    if certificates.count > 2 { fields.error("tlsCertificates", "at most 2") }
    switch mode {
    case .istioMutual:
      if sources > 0 || caCertificates != nil {
        fields.error("mode", "ISTIO_MUTUAL uses the workload's identity; certificate fields are not allowed with it")
      }
    case .simple, .mutual, .optionalMutual:
      if sources > 1 { fields.error("", "more than one source of certificates") }
      if sources == 0 || files && (serverCertificate == nil || privateKey == nil) {
        fields.error(
          serverCertificate == nil ? "serverCertificate" : "privateKey", "required for mode \(mode.rawValue)",
          hint: "write serverCertificate and privateKey, or credentialName")
      }
      let byName = credentialName != nil || !credentialNames.isEmpty
      if mode != .simple && !byName && caCertificates == nil && caCredentialName == nil {
        fields.error("caCertificates", "required for mode \(mode.rawValue)")
      }
      if revocations != nil && (mode == .simple || byName) {
        fields.error("caCrl", "not allowed with SIMPLE or credentialName")
      }
    case .passthrough, .autoPassthrough:
      if sources > 0 || caCertificates != nil || revocations != nil {
        fields.report.warning(fields.path, "mode \(mode.rawValue) uses no certificates: they are ignored")
      }
    }
    if minVersion == .tls10 || minVersion == .tls11 {
      fields.report.warning(fields.path / "minProtocolVersion", "TLS below 1.2 is not served")
    }
  }

  /// What may stand on a plaintext port: `httpsRedirect`, and what has no meaning there.
  var terminatesNothing: Bool {
    (mode == .passthrough || mode == .autoPassthrough) && serverCertificate == nil && privateKey == nil && caCertificates == nil
  }
}

extension Gateway.TLS.CertificateFiles: FieldDecodable {
  init(_ fields: inout Fields) {
    serverCertificate = fields.requiredString("serverCertificate")
    privateKey = fields.requiredString("privateKey")
    caCertificates = fields.string("caCertificates")
  }
}
