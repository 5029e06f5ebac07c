extension GatewayAPI {
  /// What objects of this API may refer to, and who has granted it.
  struct ReferenceTable {
    /// A Service, ServiceEntry or host name that requests can be sent to.
    struct Target: Hashable {
      /// Fully qualified.
      let host: String
      let port: UInt16
    }

    private let domain: String
    /// Ports by fully qualified host.
    private var ports: [String: Set<UInt16>] = [:]
    /// ServiceEntry hosts by `namespace/name`.
    private var entries: [String: [String]] = [:]
    private var secrets: [String: Secret] = [:]
    private var configMaps: [String: ConfigMap] = [:]
    private var namespaceLabels: [String: [String: String]] = [:]
    private var grants: [(namespace: String, grant: ReferenceGrant)] = []

    init(objects: [StoredObject], services: [Service], domain: String) {
      self.domain = domain
      for service in services { ports[service.host, default: []].formUnion(service.ports.map(\.number)) }
      for stored in objects {
        let key = stored.key
        let name = "\(key.namespace)/\(key.name)"
        switch stored.object.spec {
        case .serviceEntry(let entry): entries[name] = entry.hosts.map { $0.lowercased() }
        case .secret(let secret): secrets[name] = secret
        case .configMap(let map): configMaps[name] = map
        case .namespace: namespaceLabels[key.name] = stored.object.meta.labels
        case .referenceGrant(let grant): grants.append((key.namespace, grant))
        default: break
        }
      }
    }

    /// Labels of a namespace; its name is always one of them, as in Kubernetes.
    func labels(ofNamespace name: String) -> [String: String] {
      var labels = namespaceLabels[name] ?? [:]
      labels["kubernetes.io/metadata.name"] = name
      return labels
    }

    func isSelected(_ namespace: String, by selection: NamespaceSelection, own: String) -> Bool {
      switch selection {
      case .none: false
      case .all: true
      case .same: namespace == own
      case .selector(let selector): selector.matches(labels(ofNamespace: namespace))
      }
    }

    /// Whether `reference`, written by an object of `kind` in `namespace`, stays at home or is granted.
    func isPermitted(_ reference: ObjectReference, kind: String, from namespace: String) -> Bool {
      let target = reference.namespace ?? namespace
      if target == namespace { return true }
      return grants.contains { item in
        item.namespace == target
          && item.grant.from.contains { $0.group == GatewayAPI.group && $0.kind == kind && $0.namespace == namespace }
          && item.grant.to.contains {
            $0.group == reference.group && $0.kind == reference.kind && ($0.name == nil || $0.name == reference.name)
          }
      }
    }

    /// Where a backend's requests go.
    func backend(_ reference: ObjectReference, kind: String, from namespace: String) throws(ReferenceProblem) -> Target {
      let target = reference.namespace ?? namespace
      let host: String
      switch (reference.group, reference.kind) {
      case ("", "Service"): host = "\(reference.name).\(target).svc.\(domain)"
      case ("networking.istio.io", "Hostname"): host = reference.name.lowercased()
      case ("networking.istio.io", "ServiceEntry"):
        host = entries["\(target)/\(reference.name)"]?.first ?? ""
      default:
        throw ReferenceProblem(
          reason: "InvalidKind", message: "a backend cannot be a \(reference.kind) of the group '\(reference.group)'")
      }
      guard isPermitted(reference, kind: kind, from: namespace) else {
        throw ReferenceProblem(
          reason: "RefNotPermitted",
          message:
            "\(reference.kind) \(target)/\(reference.name) is in another namespace and no ReferenceGrant there permits it")
      }
      guard let known = ports[host] else {
        throw ReferenceProblem(reason: "BackendNotFound", message: "\(reference.kind) \(target)/\(reference.name) is not found")
      }
      let port = reference.port ?? (known.count == 1 ? known.first : nil)
      guard let port, known.contains(port) else {
        throw ReferenceProblem(
          reason: "BackendNotFound", message: "\(reference.kind) \(target)/\(reference.name) has no such port")
      }
      return Target(host: host, port: port)
    }

    /// Hosts of a mesh parent: a Service, or a ServiceEntry.
    func meshHosts(_ reference: ObjectReference, from namespace: String) -> [String]? {
      let target = reference.namespace ?? namespace
      switch (reference.group, reference.kind) {
      case ("", "Service"):
        let host = "\(reference.name).\(target).svc.\(domain)"
        return ports[host] == nil ? nil : [host]
      case ("networking.istio.io", "ServiceEntry"): return entries["\(target)/\(reference.name)"]
      default: return nil
      }
    }

    func hasPort(_ port: UInt16, host: String) -> Bool { ports[host]?.contains(port) ?? false }

    /// The Secret behind a listener's or a Gateway's certificate reference.
    func certificate(
      _ reference: ObjectReference, from namespace: String, invalid reason: String
    ) throws(ReferenceProblem) -> Secret {
      guard reference.group.isEmpty, reference.kind == "Secret" else {
        throw ReferenceProblem(reason: reason, message: "a certificate is in a Secret, not in a \(reference.kind)")
      }
      guard isPermitted(reference, kind: "Gateway", from: namespace) else {
        throw ReferenceProblem(
          reason: "RefNotPermitted", message: "no ReferenceGrant permits the Secret \(reference.name) of another namespace")
      }
      let name = "\(reference.namespace ?? namespace)/\(reference.name)"
      guard let secret = secrets[name] else {
        throw ReferenceProblem(reason: reason, message: "the Secret \(name) is not found")
      }
      if secret.isSealed { return secret }
      guard let chain = secret.certificateChain, let key = secret.privateKey, PEMForm.holds(chain, "CERTIFICATE"),
        PEMForm.holds(key, "PRIVATE KEY")
      else { throw ReferenceProblem(reason: reason, message: "the Secret \(name) holds no certificate with its key") }
      return secret
    }

    /// PEM of the authorities behind references to ConfigMaps (`ca.crt`) or Secrets.
    func authorities(
      _ reference: ObjectReference, kind: String, from namespace: String
    ) throws(ReferenceProblem) -> [UInt8] {
      guard reference.group.isEmpty, ["ConfigMap", "Secret"].contains(reference.kind) else {
        throw ReferenceProblem(
          reason: "InvalidKind", message: "authorities are in a ConfigMap or Secret, not in a \(reference.kind)")
      }
      guard isPermitted(reference, kind: kind, from: namespace) else {
        throw ReferenceProblem(
          reason: "RefNotPermitted", message: "no ReferenceGrant permits \(reference.kind) \(reference.name)")
      }
      let name = "\(reference.namespace ?? namespace)/\(reference.name)"
      let found = reference.kind == "Secret" ? secrets[name]?.authorities : configMaps[name]?.authorities
      guard let found, PEMForm.holds(found, "CERTIFICATE") else {
        throw ReferenceProblem(
          reason: "InvalidCACertificateRef", message: "\(reference.kind) \(name) has no certificate under ca.crt")
      }
      return found
    }
  }
}

/// Armour of certificates and keys (RFC 7468), as far as it can be seen without decoding.
enum PEMForm {
  /// Whether a block whose label ends in `label` begins and ends, with lines of base64 between.
  static func holds(_ text: [UInt8], _ label: String) -> Bool {
    let lines = text.split(separator: 0x0A).map { $0.last == 0x0D ? $0.dropLast() : $0 }
    guard let begin = lines.firstIndex(where: { isLine($0, "-----BEGIN ", label) }),
      let end = lines[begin...].firstIndex(where: { isLine($0, "-----END ", label) }), end > begin + 1
    else { return false }
    return lines[(begin + 1)..<end].allSatisfy { line in
      line.allSatisfy { NameForm.isAlphanumeric($0) || [0x2B, 0x2F, 0x3D].contains($0) }
    }
  }

  private static func isLine(_ line: ArraySlice<UInt8>, _ start: String, _ label: String) -> Bool {
    let end = Array("\(label)-----".utf8)
    return line.starts(with: start.utf8) && line.count >= end.count && line.suffix(end.count).elementsEqual(end)
  }
}
