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
    }
    ObjectRules.checkExportTo(rule.exportTo, namespace: namespace, into: &report)
    if rule.workloadSelector != nil, rule.exportTo.contains(where: { $0 != "." && $0 != namespace }) {
      report.error(
        .spec / "exportTo", "a rule with workloadSelector applies to its own namespace only", hint: "write '.' or nothing")
    }
  }
}
