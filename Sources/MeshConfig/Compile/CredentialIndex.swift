/// Secrets that gateway servers name, as the gateway workload's namespace holds them (Istio, `credentialName`).
struct CredentialIndex {
  struct Credential {
    var source: ServerTLS.Source
    /// Whose clients are trusted, where the Secret says.
    var authorities: [UInt8]?
  }

  private let secrets: [String: Secret]
  private let namespace: String
  /// Names carry namespaces, and where there is no such Secret, the gateway's of that name counts.
  private let fallsBack: Bool

  init(_ objects: [StoredObject], namespace: String) {
    var secrets: [String: Secret] = [:]
    for stored in objects where stored.key.namespace == namespace {
      if case .secret(let secret) = stored.object.spec { secrets[stored.key.name] = secret }
    }
    self.secrets = secrets
    self.namespace = namespace
    fallsBack = false
  }

  /// For Gateways made of Ingresses, which name `namespace/name`: the Secret of that namespace, else of the gateway's.
  init(ofIngressesIn objects: [StoredObject], gateway namespace: String) {
    var secrets: [String: Secret] = [:]
    for stored in objects {
      if case .secret(let secret) = stored.object.spec { secrets["\(stored.key.namespace)/\(stored.key.name)"] = secret }
    }
    self.secrets = secrets
    self.namespace = namespace
    fallsBack = true
  }

  private func secret(_ name: String) -> Secret? {
    if let found = secrets[name] { return found }
    guard fallsBack, let slash = name.firstIndex(of: "/") else { return nil }
    return secrets[namespace + name[slash...]]
  }

  func credential(named name: String) -> Credential {
    guard let secret = secret(name) else {
      return Credential(source: .missing("there is no Secret \(name) in namespace \(namespace)"))
    }
    guard let certificate = secret.certificateChain, let key = secret.privateKey else {
      let reason = secret.isSealed ? "cannot be opened on this node" : "holds no certificate and key"
      return Credential(source: .missing("the Secret \(namespace)/\(name) \(reason)"))
    }
    return Credential(
      source: .material(certificate: certificate, key: key), authorities: secret.authorities ?? authorities(named: name))
  }

  /// Of the Secret `<name>-cacert`, or of the one named so itself.
  func authorities(named name: String) -> [UInt8]? { (secrets["\(name)-cacert"] ?? secrets[name])?.authorities }
}

/// Credentials that DestinationRules name, as the namespace of the calling workload holds them (Istio, DestinationRule).
struct ClientCredentials {
  private var secrets: [String: Secret] = [:]

  init(_ objects: [StoredObject] = []) {
    for stored in objects {
      if case .secret(let secret) = stored.object.spec { secrets["\(stored.key.namespace)/\(stored.key.name)"] = secret }
    }
  }

  /// What a rule with `credentialName` comes to; nil where it has none, or none that this client may use: then connections fail.
  ///
  /// Gateways use what any rule names; other workloads only rules that are for them alone (`workloadSelector`).
  func tls(
    _ written: DestinationRule.ClientTLS?, of rule: RuleIndex.Merged?, client: ClientScope, entryNames: [String]
  ) -> UpstreamTLS? {
    guard let written, let name = written.credentialName, let rule, client.isGateway || rule.workloadSelector != nil else {
      return nil
    }
    let full = "\(client.namespace)/\(name)"
    guard let authorities = secrets["\(full)-cacert"]?.authorities ?? secrets[full]?.authorities else { return nil }
    let names = written.subjectAltNames.isEmpty ? entryNames : written.subjectAltNames
    switch written.mode {
    case .simple:
      return .simple(
        serverName: written.sni, subjectAltNames: names, caCertificates: String(decoding: authorities, as: UTF8.self),
        insecureSkipVerify: written.insecureSkipVerify)
    case .mutual:
      guard let chain = secrets[full]?.certificateChain, let key = secrets[full]?.privateKey else { return nil }
      return .mutual(
        serverName: written.sni, subjectAltNames: names, caCertificates: String(decoding: authorities, as: UTF8.self),
        clientCertificate: String(decoding: chain, as: UTF8.self), privateKey: String(decoding: key, as: UTF8.self),
        insecureSkipVerify: written.insecureSkipVerify)
    case .disable, .istioMutual: return nil
    }
  }
}
