import MeshConfig
import Primitives
import Testing

@testable import Traffic

@Suite struct LoadTableTests {
  private func named(_ name: String, _ keys: [UInt64]) -> Cluster {
    var made = cluster(keys.map { endpoint($0) })
    made.name = name
    return made
  }

  @Test func `only clusters that changed are looked at`() {
    let clusters = (0..<1_000).map { named("c\($0)", [UInt64($0)]) }
    let first = LoadTable(clusters)
    #expect(first.clustersVisited == 1_000)
    for index in clusters.indices { _ = first.entry(index, of: clusters[index]) }
    var changed = clusters
    changed[7] = named("c7", [7, 8])
    let second = LoadTable(changed, after: first, changed: [7])
    #expect(second.clustersVisited == 1)
    #expect(clusters.indices.allSatisfy { first.known($0)?.load === second.known($0)?.load && first.known($0) != nil })
  }

  @Test func `hosts are made when a cluster is first used, and kept from then on`() {
    let one = named("c", [1, 2])
    let first = LoadTable([one, named("d", [3])])
    #expect(first.known(0) == nil && first.known(1) == nil)
    let hosts = first.entry(0, of: one).members.of(one).hosts
    let more = named("c", [1, 2, 5])
    let second = LoadTable([more, named("d", [3, 4])], after: first, changed: [0, 1])
    #expect(second.known(0)?.members.isMade == true && second.known(1) == nil)
    #expect(second.entry(0, of: more).members.of(more).hosts.prefix(2).elementsEqual(hosts, by: ===))
  }

  @Test func `a cluster that moved into a gap takes what is known of it along`() {
    let clusters = [named("a", [1]), named("b", [2]), named("c", [3])]
    let first = LoadTable(clusters)
    let entries = clusters.indices.map { first.entry($0, of: clusters[$0]) }
    let second = LoadTable([clusters[2], clusters[1]], after: first, changed: [0])
    #expect(second.count == 2)
    #expect(second.known(0)?.load === entries[2].load)
    #expect(second.known(1)?.load === entries[1].load)
  }

  @Test func `any sequence of changes gives what looking at everything gives`() {
    var draws = SeededGenerator(seed: 5)
    var clusters = [named("a", [1])]
    var table = LoadTable(clusters)
    for _ in 0..<300 {
      let before = clusters
      let wanted = 1 + Int(draws.below(8))
      while clusters.count > wanted { clusters.removeLast() }
      while clusters.count < wanted { clusters.append(named("n\(draws.below(4))", [draws.below(9)])) }
      let edited = Int(draws.below(UInt64(wanted)))
      clusters[edited] =
        draws.below(2) == 0 ? before[Int(draws.below(UInt64(before.count)))] : named("n\(draws.below(4))", [1, 2])
      let changed = clusters.indices.filter {
        $0 >= before.count || before[$0].name != clusters[$0].name || before[$0].endpoints != clusters[$0].endpoints
      }
      // Some have been called, and some have not.
      for index in before.indices where draws.below(3) > 0 { _ = table.entry(index, of: before[index]) }
      let next = LoadTable(clusters, after: table, changed: changed)
      let full = LoadTable(clusters, after: table)
      let carried = table.all
      #expect(next.count == clusters.count && full.count == clusters.count)
      for index in clusters.indices { #expect(next.known(index).map { $0.name == clusters[index].name } ?? true) }
      for index in clusters.indices where !changed.contains(index) {
        #expect(
          next.known(index)?.load === table.known(index)?.load && full.known(index)?.load === table.known(index)?.load
            || table.known(index) == nil)
      }
      #expect(Set(next.all.map { ObjectIdentifier($0.load) }).count == next.all.count)
      let names = Set(clusters.map(\.name))
      for name in names {
        func kept(_ new: LoadTable) -> Int {
          new.all.count { entry in entry.name == name && carried.contains { $0.load === entry.load } }
        }
        // Who looks at everything also finds somebody of this name whom nobody had called.
        #expect(kept(next) <= kept(full), "\(name)")
      }
      table = next
    }
  }
}

extension LoadTable {
  /// What is known of the clusters that were called.
  fileprivate var all: [Entry] { (0..<count).compactMap { known($0) } }
}
