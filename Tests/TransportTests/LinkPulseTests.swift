import Primitives
import Testing

@testable import Transport

/// When links are asked whether their peers live, in seconds since the link was made.
struct LinkPulseTests {
  private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: 1_000_000_000) + .milliseconds(Int64(seconds * 1000)) }

  /// What a link that is looked at every second does, and at which second it ends; `script` says what else happens.
  private func run(
    until end: Int, isDialler: Bool = true, answersPings: Bool = true, _ script: [Int: (inout LinkPulse, Instant) -> Void] = [:]
  ) -> (asked: [Int], ended: Int?) {
    var pulse = LinkPulse(at: at(0))
    var asked: [Int] = []
    for second in 1...end {
      let now = at(Double(second))
      if pulse.complaint(at: now) != nil { return (asked, second) }
      script[second]?(&pulse, now)
      guard pulse.isDue(at: now, isDialler: isDialler) else { continue }
      asked.append(second)
      pulse.asked(at: now)
      if answersPings { pulse.heard(at: now + .milliseconds(1)) }
    }
    return (asked, nil)
  }

  @Test func `a link at rest is asked at its beginning, and then every ten seconds by the side that dialled`() {
    #expect(run(until: 35).asked == [1, 11, 21, 31])
  }

  @Test func `the other side asks only when nobody asked it`() {
    #expect(run(until: 30, isDialler: false).asked == [1, 14, 27])
    let asked = run(until: 30, isDialler: false, [11: { $0.heard(at: $1) }, 21: { $0.heard(at: $1) }])
    #expect(asked.asked == [1])
  }

  @Test func `a peer that owes an answer is asked at the next look, and given up three seconds after`() {
    let run = run(until: 30, answersPings: false, [1: { $0.heard(at: $1) }, 6: { $0.wrote(at: $1) }])
    #expect(run.asked == [1, 2, 3] && run.ended == 4)
    let later = self.run(
      until: 30, [5: { $0.wrote(at: $1) }])
    #expect(later.asked == [1, 6, 16, 26] && later.ended == nil)
  }

  @Test func `traffic in both directions is answer enough`() {
    var script: [Int: (inout LinkPulse, Instant) -> Void] = [:]
    for second in 2...10 {
      script[second] = { pulse, now in
        pulse.wrote(at: now + .milliseconds(-300))
        pulse.heard(at: now + .milliseconds(-200))
        pulse.wrote(at: now + .milliseconds(-100))
      }
    }
    #expect(run(until: 10, script).asked == [1])
  }

  @Test func `a message that has begun has ten seconds, however long the link was at rest before`() {
    var pulse = LinkPulse(at: at(0))
    pulse.decoded(completed: false, isOpen: true, at: at(100))
    pulse.decoded(completed: false, isOpen: true, at: at(109))
    #expect(pulse.complaint(at: at(109.9)) == nil)
    #expect(pulse.complaint(at: at(110))?.contains("a frame took longer") == true)
    pulse.decoded(completed: true, isOpen: true, at: at(109.5))
    #expect(pulse.complaint(at: at(115)) == nil)
    pulse.decoded(completed: true, isOpen: false, at: at(116))
    #expect(pulse.complaint(at: at(200)) == nil)
  }
}
