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
    var changed = clusters
    changed[7] = named("c7", [7, 8])
    let second = LoadTable(changed, after: first, changed: [7])
    #expect(second.clustersVisited == 1)
    #expect(zip(first.entries, second.entries).allSatisfy { $0.load === $1.load })
  }

  @Test func `hosts are made when a cluster is first used, and kept from then on`() {
    let one = named("c", [1, 2])
    let first = LoadTable([one, named("d", [3])])
    #expect(first.entries.allSatisfy { !$0.members.isMade })
    let hosts = first.entries[0].members.of(one).hosts
    let more = named("c", [1, 2, 5])
    let second = LoadTable([more, named("d", [3, 4])], after: first, changed: [0, 1])
    #expect(second.entries[0].members.isMade && !second.entries[1].members.isMade)
    #expect(second.entries[0].members.of(more).hosts.prefix(2).elementsEqual(hosts, by: ===))
  }

  @Test func `a cluster that moved into a gap takes what is known of it along`() {
    let first = LoadTable([named("a", [1]), named("b", [2]), named("c", [3])])
    let second = LoadTable([named("c", [3]), named("b", [2])], after: first, changed: [0])
    #expect(second.entries.count == 2)
    #expect(second.entries[0].load === first.entries[2].load)
    #expect(second.entries[1].load === first.entries[1].load)
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
      let next = LoadTable(clusters, after: table, changed: changed)
      let full = LoadTable(clusters, after: table)
      #expect(next.entries.map(\.name) == clusters.map(\.name))
      #expect(Set(next.entries.map { ObjectIdentifier($0.load) }).count == clusters.count)
      let names = Set(clusters.map(\.name))
      for name in names {
        func kept(_ new: LoadTable) -> Int {
          new.entries.count { entry in entry.name == name && table.entries.contains { $0.load === entry.load } }
        }
        #expect(kept(next) == kept(full), "\(name)")
      }
      table = next
    }
  }
}
