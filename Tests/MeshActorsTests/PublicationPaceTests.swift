import Primitives
import Testing

@testable import MeshActors

@Suite("Pace of snapshots") struct PublicationPaceTests {
  private func at(_ milliseconds: Int) -> Instant { .zero + .milliseconds(milliseconds) }

  @Test("a change that comes alone is compiled at once") func alone() {
    var pace = PublicationPace()
    #expect(pace.pause(at: at(0)) == .zero)
    pace.began(at: at(0))
    #expect(pace.pause(at: at(5)) == .zero)
    #expect(pace.pause(at: at(1_000)) == .zero)
  }

  @Test("what follows on another snapshot waits for the interval to end, and not for what that one took") func burst() {
    var pace = PublicationPace()
    pace.began(at: at(100))
    #expect(pace.pause(at: at(100)) == PublicationPace.interval)
    #expect(pace.pause(at: at(102)) == .milliseconds(3))
    #expect(pace.pause(at: at(219)) == .zero)
  }
}
