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

  /// TLS towards Services by their BackendTLSPolicies.
  struct BackendTLSTable {
    private var byPort: [String: UpstreamTLS] = [:]
    /// What DestinationRules name.
    var credentials = ClientCredentials()

    init(_ policies: [BackendPolicy], domain: String) {
      for policy in policies where policy.accepted.reason != "Conflicted" {
        for target in policy.targets {
          let key = "\(target.service).svc.\(domain)/\(target.portName ?? "")"
          if byPort[key] == nil { byPort[key] = policy.tls }
        }
      }
    }

    /// The policy of the port by its name, else that of the whole Service.
    func tls(host: String, portName: String) -> UpstreamTLS? {
      if byPort.isEmpty { return nil }
      return (portName.isEmpty ? nil : byPort["\(host)/\(portName)"]) ?? byPort["\(host)/"]
    }
  }
}
