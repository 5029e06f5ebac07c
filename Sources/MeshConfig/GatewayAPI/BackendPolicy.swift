extension GatewayAPI {
  /// A BackendTLSPolicy with its references followed.
  struct BackendPolicy {
    let key: ObjectKey
    var accepted = Condition.accepted
    var resolved = Condition.resolved
    /// Services, by fully qualified host, with the name of a port or nil for all.
    let targets: [(service: String, portName: String?)]
    let tls: UpstreamTLS

    /// Oldest first: of policies with the same target the first wins.
    static func resolve(_ objects: [StoredObject], _ references: ReferenceTable) -> [BackendPolicy] {
      var claimed: Set<String> = []
      return objects.compactMap { stored in
        guard case .backendTLSPolicy(let written) = stored.object.spec else { return nil }
        let targets = written.targets.filter { $0.group.isEmpty && $0.kind == "Service" }
        let names = targets.map { "\(stored.key.namespace)/\($0.name)/\($0.sectionName ?? "")" }
        var authorities: [UInt8] = []
        var problem: ReferenceProblem?
        for reference in written.authorities {
          do throws(ReferenceProblem) {
            authorities += try references.authorities(reference, kind: "BackendTLSPolicy", from: stored.key.namespace)
          } catch { problem = error }
        }
        let isUsable = written.usesSystemAuthorities || !authorities.isEmpty
        let alternatives = written.alternativeNames.isEmpty ? [written.hostname] : written.alternativeNames
        var policy = BackendPolicy(
          key: stored.key,
          targets: targets.map { ("\($0.name).\(stored.key.namespace)", $0.sectionName) },
          tls: .simple(
            serverName: written.hostname, subjectAltNames: alternatives,
            // Without a single authority nothing can be verified, so every connection fails.
            caCertificates: isUsable
              ? (authorities.isEmpty ? nil : String(decoding: authorities, as: UTF8.self))
              : "authorities of BackendTLSPolicy \(stored.key.namespace)/\(stored.key.name)",
            insecureSkipVerify: false))
        if let problem {
          let reason =
            problem.reason == "RefNotPermitted" || problem.reason == "InvalidKind" ? problem.reason : "InvalidCACertificateRef"
          policy.resolved = Condition("ResolvedRefs", false, reason, problem.message)
          if !isUsable {
            policy.accepted = Condition("Accepted", false, "NoValidCACertificate", "no authority can be read")
          }
        }
        if names.contains(where: { claimed.contains($0) }) {
          policy.accepted = Condition("Accepted", false, "Conflicted", "an older policy has the same target")
        } else {
          claimed.formUnion(names)
        }
        return policy
      }
    }
  }

  /// What a Gateway shows to backends that a BackendTLSPolicy has called by TLS (`tls.backend.clientCertificateRef`).
  struct BackendCertificate {
    var resolved = Condition.resolved
    /// PEM, or what no file is called: then connections fail, rather than go without what the backend may ask for.
    private let chain: String
    private let key: String

    /// nil where the Gateway has none.
    init?(_ gateway: Gateway, _ name: ObjectKey, _ references: ReferenceTable) {
      guard let reference = gateway.backendCertificate else { return nil }
      var secret: Secret?
      do throws(ReferenceProblem) {
        secret = try references.certificate(reference, from: name.namespace, invalid: "InvalidClientCertificateRef")
      } catch {
        resolved = Condition("ResolvedRefs", false, error.reason, error.message)
      }
      let nothing = "client certificate of Gateway \(name.namespace)/\(name.name)"
      chain = secret?.certificateChain.map { String(decoding: $0, as: UTF8.self) } ?? nothing
      key = secret?.privateKey.map { String(decoding: $0, as: UTF8.self) } ?? nothing
    }

    /// The same TLS, with this certificate.
    func shown(in tls: UpstreamTLS) -> UpstreamTLS {
      guard case .simple(let serverName, let names, let authorities, let isInsecure, let revocations) = tls else { return tls }
      return .mutual(
        serverName: serverName, subjectAltNames: names, caCertificates: authorities, clientCertificate: chain, privateKey: key,
        insecureSkipVerify: isInsecure, revocations: revocations)
    }
  }

  /// TLS towards Services by their BackendTLSPolicies.
  struct BackendTLSTable {
    private var byPort: [String: UpstreamTLS] = [:]
    /// What DestinationRules name.
    var credentials = ClientCredentials()
    /// What Gateways show.
    private let certificates: [ObjectKey: BackendCertificate]

    init(_ policies: [BackendPolicy], _ certificates: [ObjectKey: BackendCertificate] = [:], domain: String) {
      self.certificates = certificates
      for policy in policies where policy.accepted.reason != "Conflicted" {
        for target in policy.targets {
          let key = "\(target.service).svc.\(domain)/\(target.portName ?? "")"
          if byPort[key] == nil { byPort[key] = policy.tls }
        }
      }
    }

    /// The policy of the port by its name, else that of the whole Service.
    ///
    /// - Parameter gateway: whose certificate is shown, where it has one.
    func tls(host: String, portName: String, by gateway: ObjectKey?) -> UpstreamTLS? {
      if byPort.isEmpty { return nil }
      let tls = (portName.isEmpty ? nil : byPort["\(host)/\(portName)"]) ?? byPort["\(host)/"]
      guard let gateway, let certificate = certificates[gateway] else { return tls }
      return tls.map(certificate.shown)
    }

    /// Gateways that have the ports of a host called with their own certificates.
    func gateways(calling host: String) -> [ObjectKey] {
      if certificates.isEmpty || !byPort.keys.contains(where: { $0.hasPrefix("\(host)/") }) { return [] }
      return certificates.keys.sorted()
    }
  }
}
