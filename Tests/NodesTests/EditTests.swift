import Glibc
import Testing

extension ProcessTests {
  /// `edit`, with scripts for editors.
  @Suite struct Editing {
    @Test func whatIsSavedIsAppliedAndWhatIsRefusedIsShownAgain() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      let rule =
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: pair}\nspec: {host: one.example}\n"
      #expect(try cluster.command(["apply", "-f", "-"], input: rule).status == 0)

      let changed = try edit(cluster, "sed -i s/one.example/two.example/ \"$1\"", "dr", "pair", "--wait")
      #expect(changed.status == 0 && changed.output.contains("destinationrule/pair configured"), "\(changed)")
      #expect(changed.output.contains("served by n1"), "\(changed)")

      for untouched in ["true", "echo '# nothing but words' > \"$1\""] {
        let result = try edit(cluster, untouched, "dr/pair")
        #expect(result.status == 0 && result.output == "Nothing was changed.\n", "\(result)")
      }
      try refusals(cluster)
      let failed = try edit(cluster, "exit 3", "dr/pair")
      #expect(failed.status == 1 && failed.errors.contains("ended with 3; nothing was changed"), "\(failed)")
      let missing = try edit(cluster, "true", "dr/none")
      #expect(missing.status == 1 && missing.errors.contains("there is no dr 'none' in namespace default"), "\(missing)")
      #expect(try edit(cluster, "true", "dr").status == 2)
      #expect(try cluster.command(["get", "dr/pair", "-o", "yaml"]).output.contains("host: three.example"))
    }

    private func refusals(_ cluster: TestCluster) throws {
      // The line that is named is the one in which the editor shows the fault.
      let mended = """
        if grep -q '^# .*error' "$1"; then
          line=$(sed -n 's/^# what was edited:\\([0-9]*\\):.*hosst.*/\\1/p' "$1")
          sed -i "${line}s/.*/  host: three.example/" "$1"
        else
          sed -i 's/host:.*/hosst: three.example/' "$1"
        fi
        """
      let result = try edit(cluster, mended, "dr/pair")
      #expect(result.status == 0 && result.output.contains("configured"), "\(result)")

      let given = try edit(cluster, "sed -i 's/host:.*/hosst: x/' \"$1\"", "dr/pair")
      #expect(given.status == 1 && given.errors.contains("nothing was changed; what you wrote is in"), "\(given)")

      let other = "\(cluster.directory)/other.yaml"
      let meshNode = "'\(Programs.meshNode)' --config '\(cluster.clusterFile)'"
      let meddling = """
        \(meshNode) get dr/pair -o yaml | sed 's/metadata:/metadata:\\n  labels: {by: other}/' > '\(other)'
        \(meshNode) apply -f '\(other)'
        sed -i 's/three/four/' "$1"
        """
      let late = try edit(cluster, meddling, "dr/pair")
      #expect(late.status == 1 && late.errors.contains("what you wrote is in"), "\(late)")
    }

    private func edit(_ cluster: TestCluster, _ script: String, _ words: String...) throws -> TestCluster.CommandResult {
      let path = "\(cluster.directory)/editor"
      try write("set -e\n" + script + "\n", to: path)
      return try cluster.command(
        ["edit"] + words, environment: ["VISUAL=sh '\(path)'", "TMPDIR=\(cluster.directory)"])
    }
  }
}
