import Primitives

extension SWIM {
  /// This node's own accusation, after a probe without answer.
  mutating func accuse(_ name: NodeName, at now: Instant, into effects: inout [Effect]) {
    guard let entry = table[name] else { return }
    switch entry.state {
    case .alive: beginSuspicion(of: entry, accuser: local.name, ownProbeFailed: true, at: now, into: &effects)
    case .suspect:
      var confirmed = false
      table.update(name) {
        $0.suspicion?.ownProbeFailed = true
        $0.suspicion?.verifyAt = nil
        confirmed = $0.suspicion?.confirm(by: local.name) ?? false
      }
      if confirmed { rumors.enqueue(.suspect(name, incarnation: entry.incarnation, accuser: local.name)) }
    case .dead, .left: break
    }
  }

  func beginningTimeouts() -> (shortest: Duration, longest: Duration, expected: Int) {
    // memberlist scales with log10(n): rumors and refutations take more rounds in a larger cluster.
    let digits = Self.digits(liveCount)
    let shortest = digits <= 2 ? configuration.suspicionMin : configuration.suspicionMin * digits / 2
    let longest = shortest * max(1, configuration.suspicionMaxFactor)
    return (shortest, longest, min(configuration.confirmations, 3, max(0, liveCount - 2)))
  }

  mutating func beginSuspicion(
    of entry: MemberTable.Entry, accuser: NodeName, ownProbeFailed: Bool, saidToHaveLeft: Bool = false, at now: Instant,
    into effects: inout [Effect]
  ) {
    let (shortest, longest, expected) = beginningTimeouts()
    var suspicion = Suspicion(
      incarnation: entry.incarnation, accuser: accuser, shortest: shortest, longest: longest, expected: expected,
      ownProbeFailed: ownProbeFailed, at: now)
    suspicion.saidToHaveLeft = saidToHaveLeft
    if !ownProbeFailed {
      // In a small cluster all look at once; in a large one the looks are spread, so that they do not flood the accused.
      let spread = liveCount <= 32 ? Duration.zero : configuration.suspicionMin / 2
      suspicion.verifyAt = now + generator.duration(in: .zero...spread)
    }
    for doubter in entry.doubters where doubter != accuser { _ = suspicion.confirm(by: doubter) }
    table.update(entry.member.name) { $0.doubters = [] }
    changeState(of: entry.member.name, to: .suspect, suspicion: suspicion, at: now, into: &effects)
    rumors.enqueue(.suspect(entry.member.name, incarnation: entry.incarnation, accuser: accuser))
  }

  mutating func advanceSuspicions(at now: Instant, into effects: inout [Effect]) {
    for name in table.suspects {
      guard let entry = table[name], let suspicion = entry.suspicion else { continue }
      if let due = suspicion.verifyAt, now >= due {
        table.update(name) { $0.suspicion?.verifyAt = nil }
        startProbe(of: name, kind: .verification, at: now, into: &effects)
      } else if now >= suspicion.deadline {
        decide(suspicion, of: entry, at: now, into: &effects)
      }
    }
  }

  /// The time is over: convict, unless the member was heard or was never probed by this node.
  private mutating func decide(
    _ suspicion: Suspicion, of entry: MemberTable.Entry, at now: Instant, into effects: inout [Effect]
  ) {
    let name = entry.member.name
    if let heardAt = entry.heardAt, heardAt > suspicion.startedAt {
      // It lives but has not refuted, perhaps because it never heard: begin anew, and the next ping tells it.
      changeState(of: name, to: .alive, at: now, into: &effects)
      rumors.drop(about: name)
      return
    }
    guard suspicion.ownProbeFailed else {
      table.update(name) { $0.suspicion?.allow(configuration.probeInterval) }
      startProbe(of: name, kind: .verification, at: now, into: &effects)
      return
    }
    let verdict: MemberState = suspicion.saidToHaveLeft ? .left : .dead
    changeState(of: name, to: verdict, at: now, into: &effects)
    rumors.enqueue(
      verdict == .left
        ? .left(name, incarnation: entry.incarnation)
        : .dead(name, incarnation: entry.incarnation, accuser: local.name))
  }

  /// Another member's suspicion came to its end. Ours need not run on if all it still waits for is time: this node's own probe
  /// failed, as many as it takes have confirmed, and the member was not heard.
  mutating func followConviction(of name: NodeName, incarnation: UInt64, at now: Instant, into effects: inout [Effect]) {
    guard let entry = table[name], let suspicion = entry.suspicion, entry.incarnation == incarnation,
      suspicion.ownProbeFailed, suspicion.isConfirmed
    else { return }
    if let heardAt = entry.heardAt, heardAt > suspicion.startedAt { return }
    decide(suspicion, of: entry, at: now, into: &effects)
  }

  /// The number of decimal digits of a count, which is ⌈log10(n + 1)⌉.
  static func digits(_ count: Int) -> Int {
    var digits = 1
    var rest = count / 10
    while rest > 0 {
      digits += 1
      rest /= 10
    }
    return digits
  }
}
