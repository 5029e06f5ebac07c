/// Istio's validation rules that concern several fields of a policy.
enum PolicyRules {
  static let dryRun = "istio.io/dry-run"
  /// What Go reads as a truth value (`strconv.ParseBool`).
  static let truthValues: Set<String> = [
    "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False",
  ]

  static func check(_ policy: AuthorizationPolicy, meta: ObjectMeta, into report: inout Report) {
    let rules = FieldPath.spec / "rules"
    switch policy.action {
    case .deny, .custom:
      if policy.rules.isEmpty {
        report.error(rules, "\(policy.action.rawValue) without rules has no meaning: rules are required")
      }
    case .allow, .audit: break
    }
    if policy.action == .custom {
      if policy.provider?.isEmpty ?? true { report.error(.spec / "provider", "`provider.name` must not be empty with CUSTOM") }
    } else if policy.provider != nil {
      report.error(.spec / "provider", "`provider` must not be set with action \(policy.action.rawValue)")
    }
    if let flag = meta.annotations[dryRun] {
      let path = FieldPath.root.field("metadata") / "annotations" / dryRun
      if !truthValues.contains(flag) { report.error(path, "must be \"true\" or \"false\"") }
      if policy.action == .audit || policy.action == .custom {
        report.error(path, "dry run is supported only with ALLOW and DENY")
      }
    }
    for (index, rule) in policy.rules.enumerated() { check(rule, of: policy, at: rules[index], into: &report) }
  }

  private static func check(
    _ rule: AuthorizationPolicy.Rule, of policy: AuthorizationPolicy, at path: FieldPath, into report: inout Report
  ) {
    if policy.action == .custom {
      for (index, source) in rule.from.enumerated() {
        let late = [
          ("principals", source.principals), ("namespaces", source.namespaces), ("serviceAccounts", source.serviceAccounts),
          ("trustDomains", source.trustDomains), ("requestPrincipals", source.requestPrincipals),
        ]
        for (name, values) in late where !values.isEmpty {
          report.error(
            (path / "from")[index] / "source" / name, "not supported with action CUSTOM: it is asked before it is known")
        }
      }
      for (index, condition) in rule.when.enumerated() where Self.isKnownLate(condition.key) {
        report.error((path / "when")[index] / "key", "'\(condition.key.prefix(80))' is not supported with action CUSTOM")
      }
    }
    let hasHTTP =
      rule.from.contains { !$0.requestPrincipals.isEmpty }
      || rule.to.contains { !$0.hosts.isEmpty || !$0.methods.isEmpty || !$0.paths.isEmpty }
      || rule.when.contains { $0.key.hasPrefix("request.") }
    let hasPort = rule.to.contains { !$0.ports.isEmpty } || rule.when.contains { $0.key == "destination.port" }
    if policy.action == .deny && hasHTTP && !hasPort {
      report.warning(
        path, "configured HTTP attributes do not exist on TCP ports, where they are left out: all TCP traffic is denied",
        hint: "name the ports that the rule is for")
    }
  }

  private static func isKnownLate(_ key: String) -> Bool {
    key.hasPrefix("request.auth.")
      || ["source.namespace", "source.serviceAccount", "source.principal", "source.trustDomain"].contains(key)
  }
}
