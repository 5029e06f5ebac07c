import Cluster
import Membership
import Primitives
import Transport

extension ClusterFile {
  /// The cluster file of a node that joins with a token: itself, whom it asks first, and what the token says of the cluster.
  public static func text(
    joining token: JoinTokenText, as name: NodeName, address: String, locality: String, isGateway: Bool = false
  ) -> String {
    let contacts = token.contacts.filter { $0.name != name }.map { contact in
      #"    { "name": "\#(contact.name)", "address": "\#(contact.address.host)" }"#
    }
    let place = locality.isEmpty ? "" : #", "locality": "\#(locality)""#
    let gateway = isGateway ? #", "gateway": true"# : ""
    let own = #"    { "name": "\#(name)", "address": "\#(address)"\#(place)\#(gateway) }"#
    let ports = zip(["link", "mesh", "metrics", "health", "outboundFirst"], token.ports).map { #""\#($0)": \#($1)"# }
    let standard = JoinTokenText.Common()
    let domain = token.common.domain == standard.domain ? "" : "  \"domain\": \"\(token.common.domain)\",\n"
    let policy = token.common.isolatesTenants ? "  \"configuration\": { \"tenantIsolation\": true },\n" : ""
    return """
      {
        "cluster": "\(token.cluster)",
        "trustDomain": "\(token.trustDomain)",
      \(domain + policy)\
        "voters": \(token.voters),
        "joined": true,
        "ports": { \(ports.joined(separator: ", ")) },
        "nodes": [
      \(([own] + contacts).joined(separator: ",\n"))
        ]
      }

      """
  }

  /// A new token for this cluster; `contacts` are the nodes to ask.
  public func newToken(contacts: [Seed]) -> JoinTokenText {
    var common = JoinTokenText.Common()
    common.domain = domain
    common.isolatesTenants = configuration.isolatesTenants
    return JoinTokenText(
      cluster: cluster, trustDomain: trustDomain, voters: voters,
      ports: [ports.link, ports.mesh, ports.metrics, ports.health, ports.outboundFirst], contacts: contacts,
      common: common)
  }
}
