import HTTPCodec
import MeshConfig
import Traffic

// Sessions that stay with an endpoint (Gateway API, `sessionPersistence`). Only routes whose facts say so come here.
extension Exchange {
  private var second: UInt64 { wallClockMilliseconds() / 1000 }

  /// Of the session that the request belongs to.
  var sessionToken: SessionToken? { route?.session.flatMap { SessionToken(head, $0, now: second) } }

  /// The destination that has the session's endpoint, whatever its share is; else the one that was drawn.
  func joinSession(_ drawn: ClusterIndex) -> ClusterIndex {
    guard case .forward(let destinations)? = route?.action, destinations.count > 1, let token = sessionToken else {
      return drawn
    }
    for (index, destination) in destinations.enumerated() {
      guard let cluster = destination.cluster, snapshot.clusters.indices.contains(cluster),
        snapshot.clusters[cluster].endpoints.contains(where: { $0.key == token.endpoint })
      else { continue }
      plan.outcome = .forward(cluster: cluster, destination: index)
      if let table = routeTable { facts = table.facts(of: plan) }
      return cluster
    }
    return drawn
  }

  /// Tells the client where its session is, when that is new or has to be told anew.
  func keepSession(_ token: SessionToken?, at endpoint: UInt64) {
    guard let session = route?.session else { return }
    let goesOn = token?.endpoint == endpoint
    if goesOn, session.idleTimeout == nil {
      setCookie = nil
      return
    }
    let now = second
    setCookie = SessionToken(session, at: endpoint, after: goesOn ? token : nil, now: now).field(of: session, now: now)
  }

  /// Adds what the balancer, or the session, has to tell the client.
  func addSticky(_ value: [UInt8], to headers: inout HeaderBlock) {
    if facts.hasSession, let session = route?.session, session.carrier == .header {
      if let name = HeaderName(bytes: session.name) { headers.set(name, value) }
    } else {
      headers.add(Names.setCookie, value)
    }
  }
}
