import MeshConfig
import Primitives

extension Explanation {
  /// Lines for a terminal: the request, each rule with its verdict, the split, the policies and the endpoints.
  public var text: String {
    var lines = ["\(method) \(target) for \(authority), port \(port)"]
    lines.append(virtualHost.map { "virtual host  \($0)" } ?? "virtual host  none")
    for rule in rules {
      let origin = rule.origin.map { " (\($0))" } ?? ""
      lines.append("  \(rule.isDeciding ? "✓" : "✗") route \(rule.name)\(origin)")
      for reason in rule.reasons { lines.append("      \(reason)") }
    }
    if rulesNotReached > 0 { lines.append("    \(rulesNotReached) more not reached") }
    var verdictLine = "verdict       \(verdict.sentence)"
    if let status = verdict.status { verdictLine += ", status \(status), flags \(verdict.flags)" }
    lines.append(verdictLine)
    for share in split {
      lines.append("  \(Self.rounded(share.percent)) % → \(share.cluster)\(share.exists ? "" : " (does not exist)")")
    }
    for policy in policies { lines.append("\(Self.padded(policy.name, to: 13)) \(policy.value)") }
    for cluster in clusters { lines += Self.lines(cluster) }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func lines(_ cluster: ClusterView) -> [String] {
    let rule = cluster.destinationRule.map { ", DestinationRule \($0)" } ?? ""
    var lines = ["cluster       \(cluster.name): \(cluster.loadBalancer), TLS \(cluster.tls)\(rule)"]
    for endpoint in cluster.endpoints {
      let place = [endpoint.workload, endpoint.node.map { "on \($0)" }].compactMap(\.self).joined(separator: " ")
      let mark = endpoint.isEligible ? "✓" : "✗"
      lines.append(
        "  \(mark) \(padded(endpoint.address, to: 21)) \(padded(endpoint.health.rawValue, to: 11)) "
          + "priority \(endpoint.priority) weight \(endpoint.weight) \(endpoint.locality)"
          + (place.isEmpty ? "" : " \(place)"))
    }
    if cluster.endpointsNotShown > 0 { lines.append("    \(cluster.endpointsNotShown) more") }
    if cluster.endpoints.isEmpty { lines.append("    no endpoints") }
    return lines
  }

  private static func padded(_ text: String, to width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  private static func rounded(_ percent: Double) -> String {
    let tenths = (percent * 10).rounded() / 10
    return tenths == tenths.rounded() ? String(Int(tenths)) : String(tenths)
  }
}
