import Primitives
import Testing

@testable import MeshActors

@Suite("Pace of snapshots") struct PublicationPaceTests {
  private func at(_ milliseconds: Int) -> Instant { .zero + .milliseconds(milliseconds) }

  @Test("a change that comes alone is compiled at once") func alone() {
    var pace = PublicationPace()
    #expect(pace.pause(at: at(0)) == .zero)
    pace.published(from: at(0), to: at(1))
    #expect(pace.pause(at: at(6)) == .zero)
    #expect(pace.pause(at: at(1_000)) == .zero)
  }

  static let bursts = [(took: 1, pause: 5), (took: 20, pause: 20), (took: 119, pause: 50)]
  @Test("what follows waits as long as the last snapshot took, within bounds", arguments: bursts)
  func burst(took: Int, pause: Int) {
    var pace = PublicationPace()
    pace.published(from: at(100), to: at(100 + took))
    #expect(pace.pause(at: at(100 + took)) == .milliseconds(pause))
    #expect(pace.pause(at: at(102 + took)) == .milliseconds(pause - 2))
  }
}
