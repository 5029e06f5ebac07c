/// Istio's validation rules that concern several fields of a DestinationRule.
enum DestinationRuleRules {
  static func check(_ rule: DestinationRule, namespace: String, into report: inout Report) {
    if !rule.host.isEmpty && !NameForm.isWildcardHost(rule.host) && !AddressForm.isAddress(rule.host) {
      report.error(.spec / "host", "'\(rule.host.prefix(80))' is not a host name")
    }
    let subsets = FieldPath.spec / "subsets"
    var names: Set<String> = []
    for (index, subset) in rule.subsets.enumerated() {
      if !names.insert(subset.name).inserted {
        report.error(subsets[index] / "name", "duplicate subset name '\(subset.name.prefix(80))'")
      }
      ObjectRules.checkLabels(subset.labels, at: subsets[index] / "labels", into: &report)
    }
    checkFailover(rule, into: &report)
    ObjectRules.checkExportTo(rule.exportTo, namespace: namespace, into: &report)
    if rule.workloadSelector != nil, rule.exportTo.contains(where: { $0 != "." && $0 != namespace }) {
      report.error(
        .spec / "exportTo", "a rule with workloadSelector applies to its own namespace only", hint: "write '.' or nothing")
    }
  }

  /// Without outlier detection nothing is ever found to fail.
  private static func checkFailover(_ rule: DestinationRule, into report: inout Report) {
    let own = rule.trafficPolicy
    func warn(_ blocks: DestinationRule.Blocks, inherits: DestinationRule.OutlierDetection?, at path: FieldPath) {
      guard let locality = blocks.loadBalancer?.locality, blocks.outlierDetection == nil, inherits == nil else { return }
      if locality.failover.isEmpty && locality.failoverPriority.isEmpty { return }
      report.warning(
        path / "loadBalancer" / "localityLbSetting", "without outlierDetection nothing fails over",
        hint: "add outlierDetection: {}")
    }
    let inherited = own?.blocks.outlierDetection
    func check(_ policy: DestinationRule.TrafficPolicy?, at path: FieldPath) {
      guard let policy else { return }
      warn(policy.blocks, inherits: inherited, at: path)
      for (index, port) in policy.portLevelSettings.enumerated() {
        warn(port.blocks, inherits: nil, at: (path / "portLevelSettings")[index])
      }
    }
    check(own, at: .spec / "trafficPolicy")
    for (index, subset) in rule.subsets.enumerated() {
      check(subset.trafficPolicy, at: (.spec / "subsets")[index] / "trafficPolicy")
    }
  }
}
