/// Rules of a VirtualService that no request reaches, and matches that an earlier one takes everything from (Istio, IST0130, IST0131).
enum RuleReachability {
  static func check(_ service: VirtualService, onMeshOnly: Bool, into report: inout Report) {
    checkHTTP(service.http, onMeshOnly: onMeshOnly, into: &report)
    check(service.tls.map(\.match), at: .spec / "tls", into: &report)
    check(service.tcp.map(\.match), at: .spec / "tcp", into: &report)
  }

  private static func checkHTTP(_ routes: [VirtualService.HTTPRoute], onMeshOnly: Bool, into report: inout Report) {
    var catchAll: Int?
    var seen: Set<VirtualService.HTTPMatch> = []
    /// Matches on a prefix and nothing that another could lack, with where they stand.
    var prefixes: [(match: VirtualService.HTTPMatch, place: FieldPath)] = []
    for (index, route) in routes.enumerated() {
      let path = (FieldPath.spec / "http")[index]
      if let catchAll {
        reportUnreachable(path, "http[\(catchAll)]", into: &report)
        continue
      }
      var repeated = 0
      for (position, match) in route.match.enumerated() {
        let place = (path / "match")[position]
        guard seen.insert(match.unnamed).inserted else {
          repeated += 1
          reportIneffective(place, "it repeats an earlier one", into: &report)
          continue
        }
        if let earlier = prefixes.first(where: { $0.match.covers(match) }) {
          reportIneffective(place, "\(earlier.place) takes all that it matches", into: &report)
        }
        if case .prefix? = match.uri, onMeshOnly || !match.isEverything, prefixes.count < comparedMax {
          prefixes.append((match, place))
        }
      }
      if repeated > 0 && repeated == route.match.count {
        report.warning(path, "never reached: earlier rules have all of its matches", code: Finding.Code.unreachableRule)
      }
      // Gateways ask what matches everything last, but for a route without any match.
      if route.match.isEmpty || onMeshOnly && route.match.contains(where: \.isEverything) { catchAll = index }
    }
  }

  /// Prefixes that each later match is compared with.
  private static let comparedMax = 256

  /// Rules of connections, by their matches.
  private static func check<Match: Hashable>(_ rules: [[Match]], at path: FieldPath, into report: inout Report) {
    var catchAll: Int?
    var seen: Set<Match> = []
    for (index, matches) in rules.enumerated() {
      if let catchAll {
        reportUnreachable(path[index], "\(path)[\(catchAll)]", into: &report)
        continue
      }
      if matches.isEmpty { catchAll = index }
      var repeated = 0
      for (position, match) in matches.enumerated() where !seen.insert(match).inserted {
        repeated += 1
        reportIneffective((path[index] / "match")[position], "it repeats an earlier one", into: &report)
      }
      if repeated > 0 && repeated == matches.count {
        report.warning(path[index], "never reached: earlier rules have all of its matches", code: Finding.Code.unreachableRule)
      }
    }
  }

  private static func reportUnreachable(_ path: FieldPath, _ earlier: String, into report: inout Report) {
    report.warning(
      path, "never reached: \(earlier) matches everything", hint: "move it before \(earlier)",
      code: Finding.Code.unreachableRule)
  }

  private static func reportIneffective(_ path: FieldPath, _ reason: String, into report: inout Report) {
    report.warning(path, "the match has no effect: \(reason)", code: Finding.Code.ineffectiveMatch)
  }
}

extension VirtualService.HTTPMatch {
  /// The match as far as it decides.
  fileprivate var unnamed: Self {
    var match = self
    match.name = ""
    return match
  }

  /// A path that begins with `/`, and nothing else.
  fileprivate var isEverything: Bool {
    uri == .prefix("/") && scheme == nil && method == nil && authority == nil && headers.isEmpty && withoutHeaders.isEmpty
      && queryParams.isEmpty && port == nil && sourceLabels.isEmpty && sourceNamespace.isEmpty && gateways.isEmpty
  }

  /// Whether every request that `later` matches matches this, which begins with a prefix: all else is equal in both.
  fileprivate func covers(_ later: Self) -> Bool {
    guard case .prefix(let own)? = uri, ignoreURICase == later.ignoreURICase else { return false }
    switch later.uri {
    case .prefix(let other)?, .exact(let other)?: guard other.utf8.starts(with: own.utf8) else { return false }
    default: return false
    }
    var same = later
    same.uri = uri
    return unnamed == same.unnamed
  }
}
