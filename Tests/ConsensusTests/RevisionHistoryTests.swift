import Primitives
import Testing

@testable import Consensus

@Suite struct RevisionHistoryTests {
  private func ready() throws -> ControlBench {
    var bench = ControlBench()
    try bench.assignRoles()
    return bench
  }

  @Test func `every revision that is kept can be seen as it was`() throws {
    var bench = try ready()
    var states: [(LogIndex, [ObjectKey: [UInt8]])] = [(bench.state.revision, [:])]
    var draws = SeededGenerator(seed: 5)
    for request in 1...60 {
      let name = "v\(draws.below(5))"
      let command =
        draws.below(4) == 0
        ? change(deletes: [name], request: UInt64(request)) : change([name: "\(request)"], request: UInt64(request))
      _ = try bench.apply(command)
      if bench.state.revision != states.last?.0 {
        states.append((bench.state.revision, bench.state.objects.mapValues(\.bytes)))
      }
    }
    for (revision, objects) in states { #expect(bench.state.objects(at: revision)?.mapValues(\.bytes) == objects) }
    #expect(bench.state.objects(at: LogIndex(1_000_000)) == nil)
    let restored = try ControlState(restoring: bench.state.snapshot())
    #expect(restored == bench.state)
    #expect(restored.objects(at: states[3].0)?.mapValues(\.bytes) == states[3].1)
  }

  @Test func `the history is bounded in count and in bytes`() throws {
    var bench = try ready()
    for request in 1...(ConsensusLimits.revisionsMax + 20) {
      _ = try bench.apply(change(["v": "\(request)"], request: UInt64(request)))
    }
    #expect(bench.state.revisions.all.count == ConsensusLimits.revisionsMax)
    var history = RevisionHistory()
    let large = StoredObject(bytes: Array(repeating: 0x78, count: 900_000), created: LogIndex(1), version: LogIndex(1))
    for number in 1...20 {
      history.append(
        ConfigurationRevision(
          number: LogIndex(UInt64(number) + 1), previous: LogIndex(UInt64(number)), author: "test",
          changes: [ConfigurationRevision.Change(key: key("v"), before: large)]))
    }
    #expect(history.all.count == ConsensusLimits.revisionBytesMax / 900_000)
  }
}
