import Primitives
import Transport

/// The key and certificate of one service account on this node.
public struct WorkloadIdentity: Sendable {
  public let id: SPIFFEID
  public let key: PrivateKey
  /// Leaf first; empty until the first certificate is issued.
  public private(set) var chain: [Certificate]
  private let chainPath: String

  /// Loads what the data directory has of this identity, so that running workloads keep their mTLS when no authority is
  /// reachable; makes a key when there is none.
  public init(directory: String, trustDomain: String, namespace: String, serviceAccount: String, now: Int64) throws {
    id = try SPIFFEID.workload(trustDomain: trustDomain, namespace: namespace, serviceAccount: serviceAccount)
    let base = "\(directory)/workload.\(namespace).\(serviceAccount)"
    key = try StoredKey.loadOrMake("\(base)-key.pem")
    chainPath = "\(base)-cert.pem"
    chain = try StoredChain.load(chainPath, key: key, id: id, validAt: now) ?? []
  }

  public var leaf: Certificate? { chain.first }

  public mutating func renew(_ chain: [Certificate]) throws {
    try StoredChain.replace(chainPath, with: chain, key: key, id: id)
    self.chain = chain
  }
}

extension Certificate {
  /// When half of its life is over, plus up to a hundredth of it: nodes that started together renew apart (Istio: 1 %).
  public func renewalTime(jitter: Double) -> Int64 {
    let life = Double(notAfter - notBefore)
    return notBefore + Int64(life * (0.5 + 0.01 * min(1, max(0, jitter))))
  }
}
