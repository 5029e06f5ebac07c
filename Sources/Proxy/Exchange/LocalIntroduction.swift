import HTTPCodec
import MeshConfig
import Primitives
import Transport

// A hop that stays on this node has no other node to say who calls: the application reads it all the same.
extension Exchange {
  /// Sets `x-forwarded-client-cert` for an application of this node, as its node would have done for a call from another one;
  /// takes it back where the next try goes elsewhere.
  func introduceCaller() {
    guard inbound == nil else { return }
    guard let endpoint, endpoint.isLocal, let workload = endpoint.workload, let sourceLocal, introducesLocally else {
      guard let before = certificateFieldBefore else { return }
      certificateFieldBefore = nil
      head.headers.remove(.forwardedClientCert)
      if !before.isEmpty { head.headers.set(Names.forwardedClientCert, before) }
      return
    }
    let before = certificateFieldBefore ?? head.headers.value(.forwardedClientCert).map { head.headers.copy($0) } ?? []
    certificateFieldBefore = before
    let text = introduction(from: sourceLocal, to: workload)
    head.headers.set(Names.forwardedClientCert, before.isEmpty ? text : before + [0x2C] + text)
  }

  private var introducesLocally: Bool {
    switch snapshot.settings.proxy.headers.clientCertificate {
    case nil, .undefined, .appendForward, .sanitizeSet: true
    case .sanitize, .forwardOnly, .alwaysForwardOnly: false
    }
  }

  /// What a workload's certificate says besides its hash, as far as the mesh wants it told: it has no subject.
  func said(of identity: SPIFFEID) -> String {
    let details = snapshot.settings.proxy.headers.certificateDetails
    return (details.subject ? ";Subject=\"\"" : "") + (details.uri ? ";URI=\(identity)" : "")
  }

  /// The same for all requests of a client to one workload, so it is made once in a state.
  private func introduction(from sourceLocal: Int, to workload: WorkloadIndex) -> [UInt8] {
    if let known = caller.introduction, known.generation == state.generation, known.workload == workload { return known.text }
    var hash = ""
    if state.tls.clients.indices.contains(sourceLocal), let leaf = state.tls.clients[sourceLocal]?.identity?.chain.first {
      hash = ";Hash=\(hexString(leaf.fingerprint))"
    }
    let source = snapshot.localWorkloads[sourceLocal].identity
    let text = Array("By=\(snapshot.workloads[workload].principal)\(hash)\(said(of: source))".utf8)
    caller.introduction = (state.generation, workload, text)
    return text
  }
}
