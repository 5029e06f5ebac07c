import Membership
import Primitives

extension MembershipCluster {
  /// A keyed checksum stands in for signatures: whoever does not know the owner's key cannot make one.
  public static func signature(of payload: [UInt8], key: [UInt8]) -> [UInt8] {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in key + payload { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    var writer = ByteWriter()
    writer.uint64(hash)
    return writer.bytes
  }

  /// The certificate doubles as the key; only a node's own code signs with it.
  public static func certificate(of name: NodeName) -> [UInt8] { Array("certificate of \(name)".utf8) }

  public static func sign(as name: NodeName) -> Registry.Sign {
    { payload in signature(of: payload, key: certificate(of: name)) }
  }

  public static func verify(_ signed: SignedRow, owner: NodeName, certificates: [[UInt8]]) -> Bool {
    certificates == [certificate(of: owner)]
      && signed.signature == signature(of: signed.payload, key: certificate(of: owner))
  }

  mutating func publishNode(_ index: Int) {
    let name = nodes[index].name
    change(index) { registry, now, effects in
      try registry.publish(
        node: NodeRow(certificates: [Self.certificate(of: name)]), sign: Self.sign(as: name), at: now, into: &effects)
    }
  }

  /// Publishes a workload of a node, or changes its health.
  public mutating func publish(_ index: Int, _ workload: String, health: WorkloadHealth = .healthy) {
    let name = nodes[index].name
    change(index) { registry, now, effects in
      let label = try DNSLabel(workload)
      let row = WorkloadRow(
        name: label, namespace: try DNSLabel("default"), service: label, serviceAccount: label, address: "10.1.0.1",
        ports: [.init(name: "http", port: 9080, appProtocol: "http")], health: health)
      try registry.publish(workload: row, sign: Self.sign(as: name), at: now, into: &effects)
    }
  }

  public mutating func withdraw(_ index: Int, _ workload: String) {
    let name = nodes[index].name
    change(index) { registry, now, effects in
      try registry.withdraw(
        namespace: DNSLabel("default"), name: DNSLabel(workload), deletedAtMilliseconds: 1, sign: Self.sign(as: name), at: now,
        into: &effects)
    }
  }

  public mutating func compact(_ index: Int) {
    let name = nodes[index].name
    change(index) { registry, now, effects in
      try registry.compact(sign: Self.sign(as: name), at: now, into: &effects)
    }
  }

  /// Hands a registry message to a node as if `from` had sent it.
  public mutating func receive(_ message: RegistryMessage, from: Int, to: Int) {
    let peer = nodes[from].name
    change(to) { registry, now, effects in
      registry.handle(message, from: peer, verify: Self.verify, at: now, into: &effects)
    }
  }

  private mutating func change(
    _ index: Int, _ body: (inout Registry, Instant, inout [Registry.Effect]) throws -> Void
  ) {
    tellPeers(index)
    var effects: [Registry.Effect] = []
    let now = now
    do {
      try withRegistry(index) { try body(&$0, now, &effects) }
    } catch {
      preconditionFailure("seed \(seed): \(error)")
    }
    carryOut(effects, of: index)
  }

  private mutating func saw(_ changes: [RowChange], by index: Int) {
    let now = now
    meter?.saw(changes, by: index, at: now)
  }

  mutating func carryOut(_ effects: [Registry.Effect], of index: Int) {
    for effect in effects {
      switch effect {
      case .send(let message, let name): sendRegistry(message, from: index, to: name)
      case .rejected(let rejection, _): noteRejection(rejection, by: index)
      case .changed(let changes): saw(changes, by: index)
      case .compactionDue: compact(index)
      }
    }
    feed(index, .registryDigest(nodes[index].registry.digestHash))
  }
}
