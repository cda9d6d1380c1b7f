// Bundle the application as the guides of webpack do. Prints each file that was written, with its size.
const path = require("node:path");
const MiniCssExtractPlugin = require("mini-css-extract-plugin");
const webpack = require("webpack");

webpack(
  {
    mode: "production",
    context: __dirname,
    entry: "./src/index.ts",
    module: {
      rules: [
        { test: /\.tsx?$/, use: "ts-loader", exclude: /node_modules/ },
        { test: /\.css$/, use: [MiniCssExtractPlugin.loader, "css-loader"] },
      ],
    },
    resolve: { extensions: [".tsx", ".ts", ".js"] },
    output: { filename: "bundle.js", path: path.join(__dirname, "dist") },
    plugins: [new MiniCssExtractPlugin()],
  },
  (error, stats) => {
    if (error || stats.hasErrors()) {
      console.error(error ?? stats.toString());
      process.exit(1);
    }
  },
);
